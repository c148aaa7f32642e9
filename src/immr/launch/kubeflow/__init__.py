"""Training jobs on a cluster: PyTorchJobs of the training operator, or TrainJobs of Kubeflow Trainer."""
