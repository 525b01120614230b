"""Measures a block-storage service from its clients' side: `make bench`, or `python -m tests.bench --help`."""
