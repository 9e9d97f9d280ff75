import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vaectl.base import memory
from vaectl.base.errors import ConfigError
from vaectl.pictures import sheets as pictures
from vaectl.pictures.sheets import Panel


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
    ("count", "rows", "columns"), [(1, 1, 1), (3, 2, 2), (100, 10, 10), (101, 10, 11)]
)
def test_images_fill_a_near_square(count: int, rows: int, columns: int) -> None:
    images = np.ones((count, 4, 3), np.float32)
    arranged = pictures.near_square(images)
    assert arranged.shape == (rows, columns, 4, 3)
    assert arranged.sum() == count * 12


def test_sheets_are_wide_enough_for_their_title() -> None:
    image = np.zeros((1, 1, 4, 4), np.float32)
    title = "a title of many words that is far wider than the small image under it " * 2
    pixels = _pixels(pictures.sheet([[Panel(image)]], title=title))
    assert (pixels[:, -5:] == 255).all()
    assert (pixels < 128).any()


def test_sheets_that_cannot_be_drawn_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Panel(np.zeros((1, 100, 2, 500)))
    with pytest.raises(ConfigError, match=r"a sheet of 100\d\d\d x \d+ pixels is"):
        pictures.sheet([[panel]], title="")
    monkeypatch.setattr(memory, "total", lambda: 10**7)
    with pytest.raises(ConfigError, match=r"a sheet of \d+ x \d+ pixels needs about .* MiB"):
        pictures.sheet([[panel._replace(images=np.zeros((9, 9, 28, 28)))]], title="")


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
