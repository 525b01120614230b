"""What every route shares: microversions, envelopes, faults, routing, paging."""
