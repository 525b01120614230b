"""Quotas: limits in records, usage counted from the resources themselves."""
