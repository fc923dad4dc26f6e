"""The command line of Compute Mesh: up, demo, check, bench, and the users' commands."""
