"""How parameters move: learning rates by step and by layer, averaged weights, adapted batch normalization."""
