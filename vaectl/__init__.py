"""vaectl: the command line for variational auto-encoder experiments."""

__version__ = "0.1.0"
