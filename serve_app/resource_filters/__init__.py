"""Which lists may be filtered by what, over HTTP (3.33)."""
