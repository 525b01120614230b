"""The running pieces: thin Ray shells around plain classes of cluster/ and drivers/."""
