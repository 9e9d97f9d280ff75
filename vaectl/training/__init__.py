"""Training: from a state to the last epoch."""
