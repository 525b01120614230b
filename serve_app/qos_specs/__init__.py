"""QoS specs over HTTP, and which volume types have them."""
