"""What is held out of training: whole users, scenes and classes."""
