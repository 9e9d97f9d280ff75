"""Sweeps: keys of an experiment over values; which of them matters, and which is best."""
