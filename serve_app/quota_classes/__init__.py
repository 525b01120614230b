"""Quota class sets over HTTP; the class `default` holds for every project without limits of its own."""
