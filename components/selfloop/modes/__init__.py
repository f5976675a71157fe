"""Modes: a recipe in this process (``inprocess``), as a KFP pipeline of a pod a stage, or fused, of a pod a round.

A pipeline begins with ``resolve`` (``resolving``), which decides all settings of the run; every other task names a
stage call of the recipe, whose parameters its pod takes from there (``task``, ``calls``). On the laptop ``tracing``
makes the graph, ``compact`` makes it small, ``argo`` says what a run of it costs a cluster, ``compiling`` writes it or
runs it here.
"""
