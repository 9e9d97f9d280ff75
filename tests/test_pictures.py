import io
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vaectl.base import memory
from vaectl.base.errors import ConfigError
from vaectl.pictures import sheets as pictures
from vaectl.pictures.sheets import Panel
from vaectl.pictures.style import DARK, DEFAULT, THEMES, Style, Theme, parse


def _pixels(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return np.asarray(Image.open(file).convert("L"))


def _find(image: np.ndarray, pixels: np.ndarray) -> bool:
    """Tell whether an image whose corner is ink stands somewhere in a picture, pixel for pixel."""
    h, w = image.shape
    ink = pixels == image[0, 0]
    corner = ink[1:, 1:] & ~ink[:-1, 1:] & ~ink[1:, :-1]
    rows, columns = 1 + np.argwhere(corner).T
    return any(
        np.array_equal(pixels[r : r + h, c : c + w], image)
        for r, c in zip(rows, columns, strict=True)
    )


def test_ink_is_black_on_white_and_every_pixel_is_a_crisp_square() -> None:
    image = np.zeros((28, 28), np.float32)
    image[3, 4:20] = 1
    image[10:25, 7] = 1
    pixels = _pixels(pictures.sheet([[Panel(image[None, None])]], title="one digit"))
    assert (pixels.min(), pixels.max()) == (0, 255)
    for scale in range(2, 60):
        enlarged = 255 - 255 * np.kron(image[3:25, 4:20], np.ones((scale, scale))).astype(np.uint8)
        if enlarged.shape[0] < pixels.shape[0] and _find(enlarged, pixels):
            break
    else:
        pytest.fail("the image is not there pixel for pixel")


def test_grey_is_grey() -> None:
    image = np.full((1, 1, 28, 28), 0.5, np.float32)
    pixels = _pixels(pictures.sheet([[Panel(image)]], title="grey"))
    values, counts = np.unique(pixels, return_counts=True)
    assert 125 <= values[np.argmax(counts)] <= 130


@pytest.mark.parametrize(
    ("count", "rows", "columns"),
    [(1, 1, 1), (3, 2, 2), (50, 5, 10), (64, 8, 8), (99, 9, 11), (100, 10, 10), (101, 8, 13)],
)
def test_images_fill_a_near_square(count: int, rows: int, columns: int) -> None:
    images = np.ones((count, 4, 3), np.float32)
    arranged = pictures.near_square(images)
    assert arranged.shape == (rows, columns, 4, 3)
    assert np.nansum(arranged) == count * 12


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda theme: theme.name)
def test_the_default_number_of_images_leaves_no_row_with_fewer(theme: Theme) -> None:
    style = Style(theme=theme)
    count = pictures.filling(100, style)
    assert 90 <= count <= 100
    assert not np.isnan(pictures.near_square(np.ones((count, 4, 4)), style)).any()


@pytest.mark.parametrize("theme", ["paper", "slides"])
def test_a_narrow_figure_has_fewer_images(theme: str) -> None:
    style = parse(theme=theme, width="40")
    count = pictures.filling(100, style)
    images = pictures.near_square(np.ones((count, 28, 28), np.float32), style)
    assert not np.isnan(images).any()
    axes = pictures.sheet([[Panel(images)]], title="", style=style).axes[0]
    assert axes.get_position().width * style.width() / images.shape[1] > style.least_image


def test_what_is_left_of_a_row_stands_in_its_middle() -> None:
    images = pictures.near_square(np.ones((7, 9, 9), np.float32))
    assert images.shape[:2] == (2, 4)
    figure = pictures.sheet([[Panel(images)]], title="", style=Style(polarity="ink"))
    tile = np.asarray(figure.axes[0].images[0].get_array())[..., :3]
    last = (tile[-9:] == 0).all(axis=(0, 2))  # black where there are images
    assert last.any()
    assert abs(np.flatnonzero(last).mean() - (len(last) - 1) / 2) <= 1


def test_sheets_that_cannot_be_drawn_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Panel(np.zeros((1, 200, 2, 500)))
    with pytest.raises(ConfigError, match=r"a sheet of 1\d{5} x \d+ pixels "):
        pictures.sheet([[panel]], title="")
    labelled = Panel(np.zeros((1, 1, 2, 2)), row_labels=["very long " * 40])
    with pytest.raises(ConfigError, match="no room is left"):
        pictures.sheet([[labelled]], title="")
    monkeypatch.setattr(memory, "total", lambda: 10**7)
    with pytest.raises(ConfigError, match=r"a sheet of \d+ x \d+ pixels needs about .* MiB"):
        pictures.sheet([[panel._replace(images=np.zeros((9, 9, 28, 28)))]], title="")


@pytest.mark.parametrize("width", [41.0, 100.3])
@pytest.mark.parametrize("columns", [1, 7, 20])
def test_pixels_are_whole_at_every_width(width: float, columns: int) -> None:
    image = np.zeros((28, 28), np.float32)
    image[0, 0] = image[-1, -1] = image[3, 4:20] = image[10:25, 7] = 1
    panel = Panel(np.tile(image, (1, columns, 1, 1)))
    figure = pictures.sheet([[panel]], title="", style=Style(chosen_width=width))
    pixels = _pixels(figure)
    assert pixels.shape[1] == pytest.approx(width / 25.4 * figure.dpi, abs=1)
    scale = round((figure.axes[0].get_position().width * pixels.shape[1]) / (30 * columns - 2))
    enlarged = 255 - 255 * np.kron(image, np.ones((scale, scale))).astype(np.uint8)
    assert _find(enlarged, pixels)


def test_ink_is_for_drawings_and_not_for_dark_figures() -> None:
    assert DEFAULT.with_polarity(drawings=True).polarity == "ink"
    assert DEFAULT.with_polarity(drawings=False).polarity == "light"
    assert Style(theme=DARK).with_polarity(drawings=True).polarity == "light"
    for wanted in ("ink", "light"):
        style = Style(polarity=wanted).with_polarity(drawings=wanted == "light")
        assert style.polarity == wanted
        panel = Panel(np.full((1, 1, 9, 9), 0.9, np.float32))
        pixels = _pixels(pictures.sheet([[panel]], title="", style=style))
        expected = round(255 * (0.9 if wanted == "light" else 0.1))
        assert (np.abs(pixels.astype(int) - expected) <= 1).mean() > 0.5


def test_gaps_and_blank_images_are_the_background() -> None:
    style = Style(theme=DARK, polarity="light")
    images = pictures.near_square(np.ones((3, 9, 9), np.float32), Style())
    figure = pictures.sheet([[Panel(images)]], title="", style=style)
    (image,) = figure.axes[0].images
    tile = np.asarray(image.get_array())[..., :3]
    for gap in (tile[:9, 9:11], tile[9:11], tile[11:, :5], tile[11:, 15:]):
        assert set(map(tuple, gap.reshape(-1, 3).tolist())) == {(0x15, 0x17, 0x1C)}
    assert (tile[:9, :9] == 255).all()


def test_labels_without_room_are_left_out() -> None:
    labels = [f"{x:.1f}" for x in np.linspace(-3, 3, 40)]
    panel = Panel(np.zeros((40, 40, 9, 9)), "", labels, labels)
    axes = pictures.sheet([[panel]], title="", style=Style(chosen_width=60)).axes[0]
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert len(shown) == 40
    assert 3 <= len(list(filter(None, shown))) <= 20


def test_panels_have_headings_labels_and_axes() -> None:
    images = np.zeros((2, 3, 5, 5), np.float32)
    panel = Panel(images, "heading", ["a", "b"], ["1", "2", "3"], "x", "y")
    axes = pictures.sheet([[panel, panel], [panel, panel]], title="t").axes
    assert len(axes) == 4
    for one in axes:
        assert one.get_title(loc="left") == "heading"
        assert [label.get_text() for label in one.get_yticklabels()] == ["a", "b"]
        assert [label.get_text() for label in one.get_xticklabels()] == ["1", "2", "3"]
        assert one.get_xticks().tolist() == [2, 9, 16]


@pytest.mark.parametrize(("polarity", "of_one"), [("ink", 0), ("light", 255)])
def test_a_written_sheet_shows_ones_and_zeros_by_its_polarity(
    polarity: Literal["ink", "light"], of_one: int, tmp_path: Path
) -> None:
    images = np.zeros((1, 1, 40, 40), np.float32)
    images[..., 20:] = 1
    figure = pictures.sheet([[Panel(images)]], title="", style=Style(polarity=polarity))
    figure.savefig(tmp_path / "sheet.png")
    shown = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    row = shown[shown.shape[0] // 2]
    middle = len(row) // 2
    assert (row[middle - 5], row[middle + 5]) == (255 - of_one, of_one)
