"""``mesh bench placement``: how well and how fast the engine fills a site. Start with ``command.py``."""
