"""Snapshots: their records, reads and intents."""
