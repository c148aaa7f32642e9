"""The path of a query: encode, retrieve, read features, rank. The Bento and the evaluation share it."""
