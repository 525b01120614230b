"""Users, projects and roles of the embedded identity."""
