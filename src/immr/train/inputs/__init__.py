"""Training inputs: batches, frozen features, augmented pictures."""
