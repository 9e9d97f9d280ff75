"""How fast all of this is, beside its floor."""
