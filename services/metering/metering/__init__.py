"""The usage ledger, prices, what a request cost."""
