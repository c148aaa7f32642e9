"""Label cleaning: is a photo what its clicks say? Clicks are the prior, appearance the likelihood."""
