"""The list of API extensions over HTTP."""
