"""What the agent decides: pure, and so tested without a server."""
