"""Services over HTTP: what runs where, and whether it gets new volumes."""
