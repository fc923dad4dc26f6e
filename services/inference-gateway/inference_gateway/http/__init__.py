"""The public doors: ``openai`` (hot, raw ASGI), ``api`` (resources by asks), ``events`` (the event stream)."""
