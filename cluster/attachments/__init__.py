"""Attachments: who uses a volume, and through which connection."""
