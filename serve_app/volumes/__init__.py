"""The volume resource on the wire: its routes, bodies and views."""
