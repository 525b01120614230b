"""QoS specs: limits that volume types carry."""
