"""File formats of object proposals."""
