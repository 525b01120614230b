"""Availability zones over HTTP."""
