"""Benchmarks: that for accelerators, tried on a CPU, and that of the paper's Fig. 3."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import paper


@pytest.mark.full
def test_the_benchmark_of_accelerators_prints_its_tables() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.accelerator", "--device", "cpu"]
    small = ["--small", "--rounds", "1"]
    done = subprocess.run(
        [*command, *small], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines()]
    assert "bfloat16" in rows
    assert "2" in rows
    assert "IW-50 of the test images" in rows


def test_comparisons_of_any_version_stand_beside_the_paper(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The later ones have more columns in trials.csv."""
    for name, of_adam in (("paper-z20", "-83.04"), ("paper-z2", "-146.18")):
        paper.main(Path(__file__).parents[1] / "runs" / "reference" / name)
        assert f"| -82.92 | {of_adam} |" in capsys.readouterr().out
