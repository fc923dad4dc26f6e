"""One server: its devices, its health, its workloads, its energy."""
