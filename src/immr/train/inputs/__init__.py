"""What training reads: frozen features, batches, augmented pictures."""
