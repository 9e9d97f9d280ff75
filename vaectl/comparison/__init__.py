"""Comparisons of optimizers: plan, trials, ledger, statistics, report."""
