"""Quota sets of projects over HTTP."""
