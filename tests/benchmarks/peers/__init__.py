"""vaectl's training beside the same training in other software; see `__main__`."""
