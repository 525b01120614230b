"""Who the caller is and what it may do: the embedded Keystone, a real one, or none; and the policy table."""
