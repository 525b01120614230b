"""User messages over HTTP (3.3)."""
