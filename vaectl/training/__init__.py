"""From a state to the last epoch."""
