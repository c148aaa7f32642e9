"""Learning with thousands of classes."""
