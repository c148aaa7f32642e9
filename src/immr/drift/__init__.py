"""Compares recent queries with the held-out data of the training set."""
