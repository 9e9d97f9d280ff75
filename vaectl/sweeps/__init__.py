"""Sweeps: vary keys of an experiment, to find which key matters and which values are best."""
