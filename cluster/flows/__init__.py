"""Flows: one straight async function of named steps for each kind of operation."""
