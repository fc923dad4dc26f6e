"""What metering decides: what a line costs, and which batches a producer still owes. Pure."""
