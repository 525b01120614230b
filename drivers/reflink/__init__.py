"""Volumes as sparse files in one directory; snapshots and clones share extents where the file system can (FICLONE)."""
