"""Measurements of speed, each compared with the time of its matrix products alone."""
