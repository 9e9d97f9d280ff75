"""Numbers with their nouns."""


def plural(count: int, what: str) -> str:
    """Return a number and a noun, in the plural unless there is one of it."""
    return f"{count:,} {what}{'s' * (count != 1)}"
