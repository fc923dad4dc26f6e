"""One server: its devices, its health, its workloads, its energy.

It makes true what placement wishes of this node (bucket ``intents``), and tells what happened.
Start with :mod:`node_agent.app`; what is decided stands in :mod:`node_agent.domain`. It has no
database: what it tells goes through a journal in its data folder.
"""
