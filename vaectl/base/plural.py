"""Numbers with their nouns, and names in a row."""

from collections.abc import Sequence


def plural(count: int, what: str) -> str:
    """Return a number and a noun, in the plural unless there is one of it."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def listed(names: Sequence[str], most: int = 20) -> str:
    """Join names by commas, at most so many of them; `none` if there are none."""
    return ", ".join(names[:most]) + ", ..." * (len(names) > most) if names else "none"
