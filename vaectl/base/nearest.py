"""The known names that are most like a mistyped one, for messages."""

import difflib
from collections.abc import Iterable
from pathlib import Path

_MOST = 3
"""The most names that are returned."""
_ALIKE = 0.6
"""The least similarity of two names, of 1: see `difflib.SequenceMatcher.ratio`."""
_TIE = 0.05
"""The largest difference in similarity between the first and the last of the returned names."""


def nearest(text: str, known: Iterable[str], *, alike: float = _ALIKE) -> list[str]:
    """Return the known names that are most like a text, the most similar first; often none.

    Upper and lower case, and '-' and '_', are the same. If no name is similar, those that begin
    like the text are returned.
    """
    by_form = {_form(name): name for name in known}
    wanted = _form(text)
    forms = difflib.get_close_matches(wanted, by_form, n=_MOST, cutoff=alike)
    if forms:
        best = _similarity(wanted, forms[0])
        forms = [form for form in forms if _similarity(wanted, form) >= best - _TIE]
    elif len(wanted) > 2:
        forms = [form for form in by_form if form.startswith(wanted)][:_MOST]
    return [by_form[form] for form in forms]


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: `; did you mean ...?`, or nothing."""
    return question(nearest(text, known))


def question(names: Iterable[str]) -> str:
    """Return a question whether one of these names was meant; an empty text if there are none."""
    found = " or ".join(names)
    return f"; did you mean {found}?" if found else ""


def nearest_path(path: Path) -> Path | None:
    """Return the file or folder whose path is most like that of one that does not exist."""
    try:
        folder = path.parent if path.parent.is_dir() else nearest_path(path.parent)
        if folder is None or not folder.is_dir():
            return None
        names = [each.name for each in folder.iterdir()]
    except (OSError, ValueError, RecursionError):  # not readable, or no path at all
        return None
    found = [path.name] if path.name in names else nearest(path.name, names)
    return folder / found[0] if found else None


def did_you_mean_path(path: Path) -> str:
    """Return the end of a message about a missing file: `; did you mean ...?`, or nothing."""
    found = nearest_path(path)
    return question([str(found)] if found and found != path else [])


def _form(name: str) -> str:
    return name.lower().replace("_", "-").lstrip("-")


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(a=other, b=one).ratio()
