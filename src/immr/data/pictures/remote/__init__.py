"""Pictures behind URLs and in object stores: requested with limits, and kept by content."""
