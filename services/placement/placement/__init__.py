"""Who runs where, and why.

Placement knows nodes by what identity and the agents tell, endpoints by what tenants ask for. It
decides how many replicas run (``domain.plan``) and where (``domain.engine``, in words
``domain.decide``), who is lost (``domain.silence``) and who may take work (``domain.health``); writes
what each node should run into the bucket ``intents`` and who answers for a model into ``routes``;
tells ``placement.*``. Start with ``domain/decide.py``, then ``settle.py``: every door ends there.

The engine is one site in memory (``memory.py``): what it was given and what it decided stands in the
table ``decision``, in commit order, and comes out the same when it is decided again.

How many replicas run follows demand, as the gateways tell it (``domain.scale``, ``scaling.py``).

``domain/engine`` holds a site of any size in memory and decides: where each replica, job and lease goes, who
waits, who gives way, and why (``memory.py`` has it decide within a transaction, and its log begins again from there).

Jobs and leases are judged anew whenever anything of them changes (``domain.jobs``, ``domain.leases``,
``work.py``), within power caps and quota (``site_asks.py``).
"""
