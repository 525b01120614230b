"""HTTP and the command line: the Cinder v3 API, identity, and `pumice`."""
