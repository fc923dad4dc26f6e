"""Who runs where, and why."""
