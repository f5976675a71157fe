"""Mode 2: a recipe as a KFP pipeline, a pod a stage (or, fused, a pod a round), and its run by ``kfp.local``.

A pipeline begins with ``resolve`` (``resolving``), which decides all settings of the run; every other task names a
stage call of the recipe, whose parameters its pod takes from there (``calls``). On the laptop ``tracing`` makes the
graph, ``compact`` makes it small, ``compiling`` writes it or runs it here.
"""
