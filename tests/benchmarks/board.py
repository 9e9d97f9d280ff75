"""The board of a comparison as a table in Markdown, as runs/README.md has it.

python -m tests.benchmarks.board runs/reference/field-digits
"""

import sys
from pathlib import Path

from vaectl.comparison import words
from vaectl.comparison.summary import Summary
from vaectl.comparison.words import Column

LEFT_OUT = (
    *("last validation ", "p ", "epochs to ", "seconds to ", "finished ", "tried "),
    *("test ELBO ", "test KL ", "active of "),
)
"""Beginnings of the headings of columns that a page has, and this table has no room for."""


def main(path: Path) -> None:
    """Print the board, and what its numbers mean."""
    summary = Summary.model_validate_json((path / "summary.json").read_text())
    every = (*words.board(summary), *words.details(summary))
    columns = [each for each in every if not f"{each.heading} ".startswith(LEFT_OUT)]
    print(_row("optimizer", [column.heading for column in columns]))
    print(_row("---", [_rule(column) for column in columns]))
    for row, side in enumerate(summary.sides):
        print(_row(side.label, [column.cells[row].text for column in columns]))
    print()
    for line in (
        words.told_tests(summary.pairs),
        f"The target is {summary.target_told}.",
        words.told_times(summary),
        *words.told_along(summary),
        summary.verdict,
    ):
        print(line)


def _row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _rule(column: Column) -> str:
    return "---:" if column.numbers else "---"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
