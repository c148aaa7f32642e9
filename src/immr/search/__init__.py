"""The path of a query in a Bento: encode, retrieve, look up item features, rank; one file per step."""
