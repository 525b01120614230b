"""The default volume type of a project over HTTP (3.62)."""
