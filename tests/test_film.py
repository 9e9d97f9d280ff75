"""The film of a training: which frames are kept, where, and what becomes of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Vaectl
from tests.test_contracts import _follow, _results
from vaectl import config
from vaectl.base.files import Folder
from vaectl.runs import film
from vaectl.sinks.base import Pictures, Training
from vaectl.sinks.film import Film

SMALL = ("--hidden-size", 4, "--set", "data.train_size=100", "--set", "data.validation_size=20")


def _steps(run: Path) -> list[int]:
    return film.steps(Folder(run / film.FOLDER))


@pytest.mark.parametrize("epochs", [1, 2, 7, 60, 61, 150, 10_000])
def test_frames_are_spread_over_the_epochs(epochs: int) -> None:
    chosen = [epoch for epoch in range(1, epochs + 1) if Film().draws(epoch, epochs)]
    assert (chosen[0], chosen[-1]) == (1, epochs)
    assert min(epochs, 60) <= len(chosen) <= 61
    if len(chosen) > 2:
        gaps = np.diff(chosen[1:])
        assert gaps.max() - gaps.min() <= 1


def test_a_long_film_is_thinned_out_evenly(tmp_path: Path) -> None:
    _follow(Film(frames=10), tmp_path, [-1.0] * 10)
    assert _steps(tmp_path) == [10 * epoch for epoch in range(1, 11)]
    _follow(Film(frames=10), tmp_path, [-1.0] * 30, after=10)
    kept = _steps(tmp_path)
    assert len(kept) == 10
    assert (kept[0], kept[-1]) == (10, 400)
    gaps = np.diff(kept[:-1])  # the newest frame has only begun its gap
    assert gaps.max() <= 2 * gaps.min()


def test_a_film_of_fewer_frames_is_thinned_out_when_the_training_goes_on(tmp_path: Path) -> None:
    _follow(Film(), tmp_path, [-1.0] * 20)
    assert len(_steps(tmp_path)) == 20
    _follow(Film(frames=10), tmp_path, [-1.0], after=20)
    assert len(_steps(tmp_path)) == 10


def test_a_film_that_is_filled_in_loses_no_frame_of_its_run(tmp_path: Path) -> None:
    _follow(Film(), tmp_path, [-1.0] * 20)
    over = frozenset(range(10, 300, 10)) - {50}
    log = Film(frames=10).open(Training("a", tmp_path, config.Config(), 0, 0.0, over))
    before = {*range(10, 210, 10)} - {50}
    assert {*_steps(tmp_path)} == before
    for epoch in range(1, 29):
        pictures = _results(epoch, -1.0).pictures if epoch in (10, 25, 28) else None
        log.write(_results(epoch, -1.0)._replace(pictures=pictures))
    assert {*_steps(tmp_path)} == before | {280}  # the end, and no room for a frame before it


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frame_shows_what_the_model_made(tmp_path: Path, channels: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((5, 4, 6, channels), np.float32)
    plane = rng.random((2, 3, 4, 6, channels), np.float32)
    results = _results(1, -1.0)
    log = Film().open(Training("a", tmp_path, config.Config(), 0, 0.0))
    log.write(results._replace(pictures=Pictures(samples, samples, samples, plane)))
    log.write(results._replace(step=11, pictures=None))
    log.close("finished")
    found = film.frames(Folder(tmp_path))
    assert {kind: list(kept) for kind, kept in found.items()} == {"manifold": [10], "samples": [10]}

    def read(kind: str) -> np.ndarray:
        image = Image.open(io.BytesIO(found[kind][10])).convert("RGB" if channels == 3 else "L")
        return np.asarray(image, np.float32).reshape(*image.size[::-1], channels) / 255

    assert read("samples").shape == (8, 24, channels)  # four in a row
    np.testing.assert_allclose(read("samples")[4:, :6], samples[4], atol=1 / 30 + 1e-3)
    np.testing.assert_allclose(read("manifold")[4:, 12:], plane[1, 2], atol=1 / 30 + 1e-3)


def test_a_run_with_a_film_trains_further_and_is_replaced_and_a_film_is_filled_in(
    vaectl: Vaectl,
) -> None:
    options = ("--epochs", 3, "--code-size", 2, *SMALL, "-q", "--name", "a")
    assert vaectl("train", *options, "--log", "film").code == 0
    run = Path("runs/a")
    # a frame that was not drawn in time is left out, but not the last one
    assert 1 <= len(_steps(run)) <= 3
    assert _steps(run)[-1] == 3
    assert (run / "film" / film.name_of("manifold", _steps(run)[0])).is_file()
    assert vaectl("train", "--resume", "a", "--epochs", 5, "--log", "film:frames=4", "-q").code == 0
    assert 2 <= len(_steps(run)) <= 4
    assert _steps(run)[-1] == 5
    (run / "film" / "mine.png").write_bytes(b"\x89PNG")
    answer = vaectl("train", *options, "--force")
    assert answer.code == 0
    assert "film/mine.png: not vaectl's" in answer.err
    assert [file.name for file in (run / "film").iterdir()] == ["mine.png"]
    assert vaectl("export-log", "a", "--to", "film", "-q").code == 0
    assert len(_steps(run)) >= 1
