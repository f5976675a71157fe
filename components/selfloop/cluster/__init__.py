"""What speaks to a cluster: Kubeflow Pipelines, Kubernetes, the Trainer."""
