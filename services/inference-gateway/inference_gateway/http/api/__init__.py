"""``/api/v1``: each path is one ask of the owner of what it names. Start with ``asking``."""
