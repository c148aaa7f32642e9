"""Pipelines for Kubeflow; the same files run on one machine through `kfp.local`."""
