"""A running service under load whose processes are killed and paused; what clients were promised is checked."""
