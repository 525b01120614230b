"""The `pumice` command."""
