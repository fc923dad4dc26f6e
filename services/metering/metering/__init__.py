"""The usage ledger, prices, what a request cost.

Reads what the gateways metered and the projects' names, writes each request's line exactly once,
tells the rated lines and their sums, shows in the bucket ``limits`` which batches the ledger holds.
Start with :mod:`metering.domain`, then :mod:`metering.handlers`.
"""
