"""selfloop: loops in which a language model improves itself, run as Kubeflow pipelines."""

__version__ = "0.1.0"
