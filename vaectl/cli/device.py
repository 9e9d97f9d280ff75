"""The option `--device`."""

from typing import Annotated, Any

import typer

from vaectl.base import wanted


def device_option(text: str, panel: str | None = None) -> Any:
    """Return an option for devices, checked before anything slow is imported."""
    return typer.Option(
        help=text,
        metavar="KIND[:N]",
        callback=_checked,
        autocompletion=_completed,
        rich_help_panel=panel,
    )


def _checked(text: str) -> str:
    wanted.devices(text)
    return text


def _completed(incomplete: str) -> list[str]:
    return [kind for kind in (*wanted.KINDS, "gpu:all") if kind.startswith(incomplete)]


MembersDevice = Annotated[
    str,
    device_option(
        "What to compute on: auto, cpu or gpu; members are spread over several, as gpu:all."
    ),
]
