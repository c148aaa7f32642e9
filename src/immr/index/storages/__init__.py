"""Where the contents of collections are stored: folders of this machine, or a Qdrant server."""
