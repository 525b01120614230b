"""Volume types: their records, reads and intents."""
