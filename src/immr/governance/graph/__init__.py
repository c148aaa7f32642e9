"""The co-click graph: from clicks to edges, and from their components to classes."""
