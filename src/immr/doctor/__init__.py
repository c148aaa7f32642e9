"""Checks what is installed, reachable and missing, on this machine and on the cluster."""
