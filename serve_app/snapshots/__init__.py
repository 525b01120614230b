"""The snapshot resource on the wire: its routes, bodies and views."""
