"""The model, as single-device code: encoders, cached features, fusion and the two towers."""
