pytest_plugins = ["tests.servers_nats", "tests.servers_postgres"]
