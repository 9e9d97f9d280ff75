"""Pages of studies: self-contained HTML, all of them from one frame."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from vaectl.base.section import Section
from vaectl.config import documents


def render(package: str, *, settings: Section, file: str, **values: object) -> str:
    """Return the page of a study.

    Args:
        package: the one with its template, `report.html.j2`, which extends `page.html.j2`.
        settings: the study's configuration, which the page shows.
        file: the name of that.
        values: what the template uses: `summary`, with what all studies have, and its own.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each, ".") for each in (package, "vaectl.studies")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"unbroken": _unbroken, "quoted": shlex.quote}
    template = environment.get_template("report.html.j2")
    return template.render(settings=documents.dump(settings), file=file, **values)


def _unbroken(text: str) -> str:
    """Return text that does not break inside an interval or a p-value."""
    for sign in (", ", "< "):
        text = text.replace(sign, f"{sign[0]}\N{NO-BREAK SPACE}")
    return text.replace(" \N{ALMOST EQUAL TO}", "\N{NO-BREAK SPACE}\N{ALMOST EQUAL TO}")


def embedded(images: Mapping[str, bytes]) -> dict[str, str]:
    """Return images in Base64, as a page holds them."""
    return {name: base64.b64encode(image).decode() for name, image in images.items()}
