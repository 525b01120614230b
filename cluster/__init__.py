"""What the cluster is and knows: settings, records, journal, flows, scheduling. No Ray, no HTTP."""
