"""Which replica is asked next: ``fleet`` decides; the rest is what it knows of replicas.

``replica`` is the state of one, with its ``breaker`` and what its latency says; ``pool`` the
replicas of one endpoint; ``prefixes`` and ``affinity`` the rules that keep like with like;
``signals`` what engines say of themselves. Nothing here waits or tells the time.
"""
