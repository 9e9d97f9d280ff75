import io
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vaectl.pictures import figures
from vaectl.pictures import sheets as pictures
from vaectl.runs.directory import save_figure
from vaectl.runs.metrics import Row


def _row(epoch: int, split: Literal["train", "validation"], elbo: float, kl: float) -> Row:
    return Row(epoch, 10 * epoch, split, {"elbo": elbo, "kl": kl, "nll": -elbo - kl}, 1.0)


def _rows(epochs: int) -> list[Row]:
    rows = []
    for epoch in range(1, epochs + 1):
        elbo = -80.0 - 200.0 / epoch
        rows += [_row(epoch, "train", elbo, 20.0), _row(epoch, "validation", elbo - 2, 21.0)]
    return rows


@pytest.mark.parametrize("quantity", ["elbo", "kl", "nll"])
def test_train_is_dashed_validation_solid_and_axes_have_units(quantity: str) -> None:
    rows = _rows(30)
    axes = figures.curves(rows, quantity, title="mnist-z20 · ELBO, 1 sample").axes[0]
    train, validation = axes.lines
    assert (train.get_label(), train.get_linestyle()) == ("train", "--")
    assert (validation.get_label(), validation.get_linestyle()) == ("validation", "-")
    assert axes.get_xlabel() == "epoch (the axis fits those after epoch 1)"
    short = figures.curves(_rows(10), quantity, title="").axes[0]
    assert short.get_xlabel() == "epoch"
    assert "nats per image" in axes.get_ylabel()
    assert axes.get_title(loc="left") == "mnist-z20 · ELBO, 1 sample"
    expected = [row.terms[quantity] for row in rows if row.split == "validation"]
    np.testing.assert_array_equal(validation.get_ydata(), expected)


def test_the_axis_shows_what_follows_the_first_steep_epochs() -> None:
    rows = _rows(100)
    low, high = figures.curves(rows, "elbo", title="").axes[0].get_ylim()
    late = [row.elbo for row in rows if row.epoch > 5]
    assert low < min(late)
    assert high > max(late)
    assert low > rows[0].elbo + 50


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_short_runs_are_drawn_too(epochs: int) -> None:
    figure = figures.curves(_rows(epochs), "elbo", title="short")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    pixels = np.asarray(Image.open(file))[..., :3]
    assert pixels.shape == (680, 1000, 3)
    assert pixels.min() < 100
    assert (pixels == 255).mean() > 0.5


ODD_NAME = "$x$ $\\frac{ <script>alert(1)</script> &amp; 🎲 數 \x1b[31m \udcff _^%"


def _drawings() -> list[Figure]:
    rng = np.random.default_rng(0)
    mu, kl = rng.normal(size=(9, 2)), np.ones(2)
    panel = pictures.Panel(np.zeros((1, 1, 4, 4)))
    return [
        figures.curves(_rows(2), "elbo", title=ODD_NAME),
        figures.inspection(mu, mu, kl, None, (0, 1), title=ODD_NAME),
        pictures.sheet([[panel]], title=ODD_NAME),
    ]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("number", range(3), ids=["curves", "inspection", "sheet"])
def test_names_in_titles_are_neither_mathematics_nor_markup(
    number: int, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{kind}"
    save_figure(file, _drawings()[number])
    if kind == "svg":
        tree = ElementTree.parse(file)  # noqa: S314  # our own
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert "script" not in tags
        assert "$x$ $\\frac{ &lt;script&gt;" in file.read_text()
