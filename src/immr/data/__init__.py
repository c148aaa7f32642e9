"""Reads a shop's tables and pictures, checks them against the data contract; the training set's files."""
