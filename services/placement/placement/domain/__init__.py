"""Pure decisions: which node, what to start and stop, who is lost. Start with ``decide``."""
