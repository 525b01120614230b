"""Pools and capabilities of backends over HTTP."""
