"""The order of a comparison's optimizers, which determines their colours."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from vaectl.base.errors import VaectlError
from vaectl.base.files import Folder
from vaectl.comparison import plan
from vaectl.comparison.run import KIND
from vaectl.pictures.traces import COLOURS
from vaectl.runs.find import MOST_BYTES, is_study


def in_order(configured: Sequence[str], ranked: Sequence[str]) -> list[str]:
    """Return labels in the order of their colours, which is the same in all figures.

    It is the order of the configuration, so that colours are the same in other comparisons. If
    there are more labels than colours, the best ones come first and get the colours.
    """
    return list(configured) if len(configured) <= COLOURS else list(ranked)


def order_of(runs: Iterable[Path]) -> list[str]:
    """Return the labels of the comparisons whose members are among the runs, in their order.

    A comparison whose settings are missing or broken has no order.
    """
    found: dict[str, None] = {}
    for folder in dict.fromkeys(run.resolve().parent for run in runs):
        if is_study(folder):
            try:
                configured = list(plan.load(folder / KIND.file).entries)
            except VaectlError:
                continue
            found |= dict.fromkeys(in_order(configured, [*_ranked(folder), *configured]))
    return list(found)


def _ranked(folder: Path) -> list[str]:
    """Return the labels from the best on; none before there is a summary."""
    try:
        told = json.loads(Folder(folder).read("summary.json", MOST_BYTES))
        return [str(side["label"]) for side in told["sides"]]
    except (OSError, ValueError, TypeError, LookupError):
        return []
