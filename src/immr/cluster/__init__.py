"""Access to the Kubernetes API, shared by `launch`, `deploy` and `doctor`."""
