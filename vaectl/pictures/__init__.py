"""Figures of runs, models and comparisons."""
