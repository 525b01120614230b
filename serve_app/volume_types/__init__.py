"""Volume types over HTTP: types, extra specs, access to private types."""
