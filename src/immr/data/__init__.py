"""Reads a shop's tables and pictures and checks them against the data contract; defines the training set's files."""
