"""Studies: trials that are planned, trained once, and sealed in a ledger."""
