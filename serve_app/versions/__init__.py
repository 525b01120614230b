"""The version document and the liveness probe."""
