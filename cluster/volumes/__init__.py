"""Volumes: their records, reads and intents."""
