"""Doubles of what is not ours, for tests and rehearsals: labelled so, and never loaded by an agent itself."""
