"""Pipelines for Kubeflow; the same files run on this machine through `kfp.local`."""
