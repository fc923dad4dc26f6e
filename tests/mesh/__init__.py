"""Six processes, one story each: the whole mesh under ``mesh up``."""
