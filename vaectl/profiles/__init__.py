"""Performance profiles: a comparison of optimizers on each of several workloads."""
