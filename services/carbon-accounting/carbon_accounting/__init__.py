"""The energy and carbon ledger, and signed receipts.

Two readings of a node's cumulative meter make an interval. What the node would have taken idle,
and what it took above that for no request (engines that start, more than serving can have taken:
``domain.serving``), stays with the operator; the rest is shared among the requests that ended in
it (``domain.split``), and becomes carbon by a dated grid factor (``grid.factors``). Every sum closes
to the meter. Start with ``domain/split.py``, then ``settle.py``.

A ledger line that is heard only after its interval was settled is settled with its node's next
interval. What it does not do yet: hourly factors, certificates, embodied carbon, the building's
overhead (PUE), spreading a long request over the intervals it spans, statements, a list of the keys
that receipts were signed with.
"""
