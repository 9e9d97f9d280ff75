"""The order of a comparison's optimizers, by which they have their colours."""

from collections.abc import Iterable
from pathlib import Path

from vaectl.base.errors import VaectlError
from vaectl.comparison import plan
from vaectl.comparison.run import KIND
from vaectl.runs.find import is_study


def order_of(runs: Iterable[Path]) -> list[str]:
    """Return the labels of the comparisons whose members are among the runs, in their order.

    A comparison whose settings are missing or broken has no order.
    """
    found: dict[str, None] = {}
    for folder in dict.fromkeys(run.resolve().parent for run in runs):
        if is_study(folder):
            try:
                found |= dict.fromkeys(plan.load(folder / KIND.file).entries)
            except VaectlError:
                continue
    return list(found)
