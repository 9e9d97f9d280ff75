"""Values of settings as text."""


def written(value: object) -> str:
    """Write a value: a number in few digits, or in all where others would read the same."""
    if isinstance(value, float):
        text = f"{value:g}"
        return text if float(text) == value else repr(value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
