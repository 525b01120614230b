"""Comparing what the records say with what the backends hold."""
