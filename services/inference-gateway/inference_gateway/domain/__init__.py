"""What the door decides, pure: bodies, routes, streams, records, cursors. Start with ``stream`` and ``records``."""
