"""What metering decides: costs, which batches are owed, what is lent of budgets and limits. Pure."""
