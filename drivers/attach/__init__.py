"""The consumer's side of an export: from a connection to a block device, a file system, a mounted directory."""
