"""The public HTTP door: admission, routing, streaming, metering.

It decides from memory alone (buckets ``access``, ``routes`` and ``limits``, and leases renewed ahead of need),
asks engines over HTTP, and writes what happens to each request into a journal and a mapped page before the
effect is seen: ``domain.records`` says why a kill loses nothing. It tells ``gateway.usage.metered`` and
``gateway.demand.changed``. The road of a request: ``heads`` and ``cycle`` (its connection), ``http.openai``,
``http.deciding`` (whether it comes in), ``call``, ``going`` (which replicas), ``attempt``, ``upstream``, ``relay``,
``reply``. Start with ``http.deciding`` and ``call``; what is decided is in ``domain``.
"""
