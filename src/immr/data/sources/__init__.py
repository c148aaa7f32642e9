"""Where a shop's tables are: files and folders here, on object storage or on a web server, and warehouse tables."""
