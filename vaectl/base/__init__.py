"""Foundations: files, errors, devices, randomness, plugs."""
