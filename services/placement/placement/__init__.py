"""Who runs where, and why.

Placement knows nodes by what identity and the agents tell, and endpoints, jobs and leases by what tenants ask
for. It decides how many replicas run (``domain.plan``), what jobs and leases are by now (``domain.jobs``,
``domain.leases``), who is lost (``domain.silence``) and who may take work (``domain.health``); where each
goes, who waits and who gives way the engine decides (``domain.engine``). It writes what each node should run
into the bucket ``intents`` and who answers for a model into ``routes``; tells ``placement.*``.

Start with ``memory.py``: the engine is one site in memory; what it was given and what it decided stands in the
table ``decision``, in commit order, and comes out the same when it is decided again. Then ``settle.py``, in
which every change of a node or an endpoint ends, and ``work.py``, which sees to jobs and leases and to all that
follows from a decision. What follows from facts that are heard together is seen to once (``later.py``), and jobs that are
submitted or cancelled together are decided together (``submitting.py``, ``job_asks.py``).

How many replicas run follows demand, as the gateways tell it (``domain.scale``, ``scaling.py``); power caps and
quota are what operators set (``site_asks.py``).
"""
