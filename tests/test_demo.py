import os
import pty
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import apart
from tests.conftest import Vaectl
from vaectl.cli import mosaic


def test_a_mosaic_has_two_pixels_in_a_cell(rng: np.random.Generator) -> None:
    images = rng.integers(0, 2, size=(3, 4, 20, 20, 1)).repeat(2, axis=2).repeat(2, axis=3)
    text = mosaic.mosaic(images.astype(np.float32), 20)
    lines = text.plain.splitlines()
    assert lines == 30 * ["▀" * 80]
    for row, column in ((0, 0), (13, 31), (59, 79)):
        span = text.spans[(row // 2) * 80 + column]
        drawn = span.style.color if row % 2 == 0 else span.style.bgcolor  # type: ignore[union-attr]
        value = images[row // 20, column // 20, 2 * (row % 20), 2 * (column % 20), 0]
        assert drawn is not None
        assert drawn.triplet == (255 * value,) * 3


@pytest.mark.parametrize(("columns", "lines"), [(80, 21), (200, 60), (20, 4), (1, 1)])
def test_a_mosaic_fits_the_terminal_if_one_picture_does(columns: int, lines: int) -> None:
    beside, above, size = mosaic.fits(columns, lines)
    assert beside == 1 or beside * size <= columns
    assert above == 1 or above * size <= 2 * lines
    assert size % 2 == 0


def test_the_demo_trains_two_dimensions_and_leaves_a_run(vaectl: Vaectl) -> None:
    answer = vaectl("demo", "--epochs", 1)
    assert answer.code == 0, answer.err
    page = Path(answer.out.splitlines()[-1])
    run = page.parents[1]
    assert (run.name, page.name) == ("digits-5k-z2-adam-s0", "explore.html")
    assert {path.name.partition("-")[0] for path in (run / "film").iterdir()} == {
        "samples",
        "manifold",
    }
    assert vaectl("manifold", run.name, "--grid", 3).code == 0


def test_on_a_terminal_the_demo_draws_the_plane(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "100"}
    process = apart.start(
        *(*apart.QUICKLY, "demo", "--epochs", 2),
        cwd=tmp_path,
        env=terminal | {"LINES": "36"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    # eight pictures beside each other and five above, each drawn whole at least once
    assert seen.count("▀".encode()) >= 30 * 96
    assert b"Traceback" not in seen
