"""The usage ledger, prices, what a request cost; budgets and limits, and gateways' shares of them.

Reads what the gateways metered and the projects' names, writes each request's line exactly once,
tells the rated lines and their sums, shows in the bucket ``limits`` which batches the ledger holds and
what bounds each scope. Lends gateways money and shares ahead of need (:mod:`metering.renewing`).
Start with :mod:`metering.domain`, then :mod:`metering.handlers`.
"""
