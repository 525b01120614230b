"""Ways by which consumers reach volumes: the exports. They know paths of bytes and nothing of backends."""
