"""`python -m demo`: the whole loop on one machine, with simulated shoppers."""
