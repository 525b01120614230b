"""Attachments over HTTP, and the older attachment actions of a volume."""
