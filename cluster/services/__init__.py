"""Services and pools: what the running pieces last reported."""
