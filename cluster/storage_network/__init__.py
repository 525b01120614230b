"""The network by which consumers come to exports: which address, what it can carry, who may come and how fast."""
