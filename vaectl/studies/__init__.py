"""Studies: trials that are planned, trained once, sealed in a ledger, and never again."""
