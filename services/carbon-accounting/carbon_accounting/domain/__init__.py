"""Pure arithmetic that closes: who used which energy, and what carbon that is. Start with ``split``."""
