"""Who may use the cloud: organizations, projects, keys, nodes."""
