"""The embedded engine and its models, all made on the spot: nothing is downloaded."""
