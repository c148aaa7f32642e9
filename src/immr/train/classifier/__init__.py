"""The sharded softmax classifier: rows, margins, sampling and the collectives it needs."""
