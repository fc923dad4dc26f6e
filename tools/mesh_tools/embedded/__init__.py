"""What `mesh up` and the tests run themselves, from wheels: nats-server and Postgres."""
