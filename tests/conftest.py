"""Servers for every room of tests, and what Hypothesis is told."""

from hypothesis import settings

pytest_plugins = ["tests.servers_nats", "tests.servers_postgres"]

# A busy machine stretches the clock of one example in thousands; a test's own timeout bounds it.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
