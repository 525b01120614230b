"""The journal: operations, their steps, and the leases under which they run."""
