"""The public HTTP door: admission, routing, streaming, metering.

It decides from memory alone (buckets ``access`` and ``routes``), asks engines over HTTP, and writes
what happens to each request into a journal before the effect is seen: ``domain.records`` says why a
kill loses nothing. It reads the bucket ``limits`` to learn which usage the ledger holds, and tells
``gateway.usage.metered``. Start with ``domain.stream`` and ``domain.records``, then ``call``.
"""
