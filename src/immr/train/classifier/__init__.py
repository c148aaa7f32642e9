"""The sharded softmax classifier: rows and their optimizers, margins, sampling, collectives."""
