"""A project's limits and use over HTTP."""
