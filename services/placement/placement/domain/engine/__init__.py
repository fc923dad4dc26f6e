"""The engine: one writer's memory of a site, inputs in and decisions out. Start with ``engine.py``.

``site`` holds the nodes, one array a column; ``fit`` says where a member fits; ``mix`` and ``score`` how good a
node is for it; ``mig`` what GPUs can be cut into, ``slices`` which instances fit where; ``views`` keep scores;
``power`` and ``tenancy`` count watts and neighbours; ``choose`` decides.
``wish`` is what comes in and goes out. ``explain`` says it in words, ``relax`` what would have admitted what was refused,
``whatif`` what would be if something were otherwise; ``defrag`` plans moves, ``shed`` what ends under a lower cap.
``snapshot`` is all that decisions depend on.

Several members at once: ``gang`` decides, of ``capacity`` by node, ``topology`` and ``spill`` by domain, ``caps``
where watts bind all of them together, ``nearest`` in order of levels; ``rows`` are their seats and ``seating`` takes
them. ``preempt`` says who makes way for a wish, of ``rooms`` priced in ``pieces`` and ``prices`` and tried on a
``trial`` of what the ``roster`` says; ``replace`` seats elsewhere who was on nodes that are lost.

``turns`` decides who gets seats, who waits and who gives way: ``quota`` and its ``branches`` what is promised and held,
``domains`` whole NVLink domains, ``share`` which quotas can be kept, ``labels`` what is borrowed, ``fair`` and ``queue``
the order, ``trying`` who is tried, ``promises`` and ``forecast`` the starts that are told, ``calendar`` and ``bookings``
reservations and maintenance, ``admission`` and ``reclaim`` how seats change hands. ``notice`` is what is told of it.
"""
