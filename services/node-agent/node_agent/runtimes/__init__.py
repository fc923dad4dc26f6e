"""How a workload runs on a server: today as a child process under a shim that outlives the agent."""
