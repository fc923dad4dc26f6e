"""The engine: one writer's memory of a site, inputs in and decisions out. Start with ``engine.py``.

``site`` holds the nodes, one array a column; ``fit`` says where a member fits; ``mix`` and ``score`` how good a
node is for it; ``views`` keep scores; ``power`` and ``tenancy`` count watts and neighbours; ``choose`` decides.
``wish`` is what comes in and goes out.
"""
