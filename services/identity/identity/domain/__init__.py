"""What identity decides: who gets a name, a key, a place on the bus. Pure."""
