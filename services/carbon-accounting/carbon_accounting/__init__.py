"""The energy and carbon ledger, and signed receipts."""
