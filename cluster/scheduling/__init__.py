"""Which pool takes a volume, and why the others do not. Pure decisions: no Ray, no SQL, no HTTP, no clock."""
