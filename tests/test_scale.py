"""Data that mean something else than they are taken for: understood where plain, else refused.

Every recipe that a refusal gives is carried out here, on the array that provoked it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tests.apart import draw_nothing
from tests.conftest import MNIST, Vaectl, needs_mnist
from tests.test_config import ANY
from tests.test_data import _idx
from vaectl import config, data
from vaectl.base.errors import DataError
from vaectl.data.arrays import Images, Published
from vaectl.data.reading import Reading
from vaectl.data.sources import tfds

Array = np.ndarray[Any, Any]
Make = Callable[[Array], Array]

BLACK_AND_WHITE = ("0/1 pixels: read as black and white",)


def _pictures(count: int, high: int = 255) -> Array:
    """Images of 9 x 8 random pixels, 0 to `high`; both ends are in each of them."""
    pixels = np.random.default_rng(count).integers(0, high + 1, size=(count, 9, 8), dtype=np.int64)
    pixels[:, 0, 0], pixels[:, 0, 1] = 0, high
    return pixels


TRAIN, TEST = 12, 6


def _npz(folder: Path, train: Array, test: Array) -> str:
    np.savez(folder / "x.npz", x_train=train, x_test=test)
    return f"npz:{folder / 'x.npz'}"


def _same(read: Published, train: Array, test: Array) -> None:
    for images, expected in ((read.train.images, train), (read.test.images, test)):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, expected)


def _recipes(error: DataError) -> list[str]:
    """The pieces of code in a hint: what follows a colon, up to a semicolon."""
    found = [part.rpartition(": ")[2] for part in error.hint.split("; ") if ": " in part]
    return [code for code in found if re.match(r"(x|np)\b", code)]


def _carried_out(code: str, x: Array, **names: int) -> Array:
    made = eval(code, {"np": np, "x": x, **names})  # noqa: S307  # that is what it is there for
    assert isinstance(made, np.ndarray)
    return made


def _refused(source: str) -> DataError:
    with pytest.raises(DataError) as error:
        data.published(source)
    assert error.value.exit_code == 3
    return error.value


class TestPlain:
    """One meaning is plain: it is taken, and said."""

    @pytest.mark.parametrize("kind", ["u1", "i1", "i8", ">i4", "u2", "f2", "f4", ">f8"])
    def test_zeros_and_ones_are_black_and_white(self, kind: str, tmp_path: Path) -> None:
        train, test = _pictures(TRAIN, 1), _pictures(TEST, 1)
        read = data.published(_npz(tmp_path, train.astype(kind), test.astype(kind)))
        _same(read, 255 * train, 255 * test)
        assert read.notes == BLACK_AND_WHITE

    def test_booleans_are_black_and_white_whatever_the_other_split_is(self, tmp_path: Path) -> None:
        binary, grey = _pictures(TRAIN, 1), _pictures(TEST)
        read = data.published(_npz(tmp_path, binary.astype(bool), grey.astype(np.uint8)))
        _same(read, 255 * binary, grey)
        assert read.notes == ()

    @pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
    def test_floats_up_to_1_are_intensities(self, kind: str, tmp_path: Path) -> None:
        train, test = _pictures(TRAIN), _pictures(TEST)
        scaled = [(images / 255).astype(kind) for images in (train, test)]
        read = data.published(_npz(tmp_path, scaled[0], scaled[1]))
        _same(read, train, test)
        assert read.notes == ("pixels from 0 to 1: read as intensities, where 1 is white",)

    @pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
    @pytest.mark.parametrize("white", [1, 255])
    def test_what_rounds_to_black_and_white_is_no_other_scale(
        self, kind: str, white: int, tmp_path: Path
    ) -> None:
        off = np.array([-0.3, 0.3] * 36).reshape(9, 8)
        train, test = _pictures(TRAIN), _pictures(TEST)
        scaled = [((images + off) * (white / 255)).astype(kind) for images in (train, test)]
        read = data.published(_npz(tmp_path, scaled[0], scaled[1]))
        for images, expected in ((read.train.images, train), (read.test.images, test)):
            assert np.abs(np.asarray(images).astype(int) - expected).max() <= (
                1 if kind == "f2" else 0
            )

    @pytest.mark.parametrize("kind", ["i2", "u2", "i8", ">u4", "f2", "f4", "f8"])
    @pytest.mark.parametrize("high", [64, 200, 255])
    def test_numbers_up_to_255_are_grey_levels(self, kind: str, high: int, tmp_path: Path) -> None:
        train, test = _pictures(TRAIN, high), _pictures(TEST, high)
        read = data.published(_npz(tmp_path, train.astype(kind), test.astype(kind)))
        _same(read, train, test)
        assert read.notes[0] == f"pixels from 0 to {high}: read as intensities, where 255 is white"

    @pytest.mark.parametrize("high", [128, 200, 255])
    def test_bytes_are_what_they_are_without_a_word(self, high: int, tmp_path: Path) -> None:
        train, test = (_pictures(n, high).astype(np.uint8) for n in (TRAIN, TEST))
        read = data.published(_npz(tmp_path, train, test))
        _same(read, train, test)
        assert read.notes == ()

    def test_published_in_black_and_white_they_may_be_bytes(self, tmp_path: Path) -> None:
        train, test = (255 * _pictures(n, 1).astype(np.uint8) for n in (TRAIN, TEST))
        read = data.published(_npz(tmp_path, train, test))
        _same(read, train, test)
        assert read.notes == ()

    @pytest.mark.parametrize(
        ("make", "note"),
        [
            (lambda x: x.astype(np.uint8), "the brightest pixel is 100, white is 255"),
            (lambda x: x / 255, "the brightest pixel is 0.39215686274509803, white is 1"),
        ],
    )
    def test_dark_images_are_read_and_said(self, make: Make, note: str, tmp_path: Path) -> None:
        train, test = _pictures(TRAIN, 100), _pictures(TEST, 100)
        read = data.published(_npz(tmp_path, make(train), make(test)))
        _same(read, train, test)
        assert read.notes[-1] == f"dark images: {note}"

    def test_single_images_may_be_blank(self, tmp_path: Path) -> None:
        train, test = _pictures(TRAIN, 1), _pictures(TEST, 1)
        train[3], test[2] = 0, 1
        read = data.published(_npz(tmp_path, train.astype(np.uint8), test.astype(np.uint8)))
        _same(read, 255 * train, 255 * test)

    def test_the_fingerprint_is_that_of_the_images_as_they_are_read(self, tmp_path: Path) -> None:
        forms: list[Make] = [
            lambda x: (255 * x).astype(np.uint8),
            lambda x: x.astype(np.uint8),
            lambda x: x.astype(bool),
            lambda x: x.astype(np.float32),
        ]
        train, test = _pictures(TRAIN, 1), _pictures(TEST, 1)
        assert (
            len(
                {
                    data.published(_npz(tmp_path, make(train), make(test))).fingerprint()
                    for make in forms
                }
            )
            == 1
        )


class TestFingerprints:
    """Runs that were trained on data which were read rightly go on."""

    def test_the_embedded_digits_keep_theirs(self) -> None:
        fingerprint = "0d8c9a2c7cf11d2f782474ab638a4fabc931ad3c5b78c6735a86ab78dc2cc25c"
        assert data.published("digits-5k").fingerprint() == fingerprint

    @needs_mnist
    def test_mnist_keeps_its_own(self) -> None:
        read = data.published(f"idx:{MNIST}")
        fingerprint = "212193ceac1fe2216e4f17b722bd511640924223725a7a2d8c7ea5f3e87ae31d"
        assert (read.fingerprint(), read.notes) == (fingerprint, ())

    @pytest.mark.parametrize("high", [128, 255])
    def test_bytes_keep_theirs(self, high: int, tmp_path: Path) -> None:
        train, test = (_pictures(n, high).astype(np.uint8) for n in (TRAIN, TEST))
        found = Published(Images(train, None), Images(test, None))
        read = data.published(_npz(tmp_path, train, test))
        assert read.fingerprint() == found.fingerprint()


# what makes other values of pictures of 0 to `high`, and which of the recipes is right for them
OTHER_SCALES: dict[str, tuple[int, Make, int]] = {
    "bytes up to 15": (15, lambda x: x.astype(np.uint8), 0),
    "bytes up to 2": (2, lambda x: x.astype(np.uint8), 0),
    "bytes up to 63": (63, lambda x: x.astype(np.uint8), 0),
    "bytes of 1 and 2": (1, lambda x: (x + 1).astype(np.uint8), 0),
    "16 bits": (65535, lambda x: x.astype(np.uint16), 0),
    "12 bits": (4095, lambda x: x.astype(np.int32), 0),
    "32 bits": (2**32 - 1, lambda x: x.astype(np.uint32), 0),
    "64 bits": (2**62, lambda x: x.astype(np.uint64), 0),
    "all of int16": (65535, lambda x: (x - 32768).astype(np.int16), 0),
    "-0.5 to 0.5": (255, lambda x: x / 255 - 0.5, 0),
    "standardized": (255, lambda x: ((x / 255 - 0.1307) / 0.3081).astype(np.float32), 0),
    "divided by 255 twice": (255, lambda x: x / 255 / 255, 0),
    "all of float16": (255, lambda x: ((x / 127.5 - 1) * 60000).astype(np.float16), 0),
    "far from zero": (255, lambda x: x / 255 + 1e6, 0),
    "decibels": (80, lambda x: x - 80.0, 0),
    "all of int8": (255, lambda x: (x - 128).astype(np.int8), 1),
    "bytes read as signed": (255, lambda x: x.astype(np.uint8).view(np.int8), 0),
    "beyond 1 by resizing": (
        255,
        lambda x: x / 255 + 0.05 * np.sign(x - 127.5) * (x % 255 == 0),
        0,
    ),
    "beyond 255 by resizing": (255, lambda x: x + 20 * np.sign(x - 127.5) * (x % 255 == 0), 0),
}


@pytest.mark.parametrize(("high", "make", "which"), OTHER_SCALES.values(), ids=OTHER_SCALES)
def test_another_scale_is_refused_with_a_recipe_that_gives_the_right_picture(
    high: int, make: Make, which: int, tmp_path: Path
) -> None:
    train, test = _pictures(TRAIN, high), _pictures(TEST, high)
    error = _refused(_npz(tmp_path, make(train), make(test)))
    assert "none of the scales" in error.message
    recipe = _recipes(error)[which]
    made = [_carried_out(recipe, make(pixels)) for pixels in (train, test)]
    read = data.published(_npz(tmp_path, made[0], made[1]))
    for images, pixels in ((read.train.images, train), (read.test.images, test)):
        np.testing.assert_allclose(images, pixels / high * 255, atol=0.6)
    assert read.notes == ()
    (says,) = re.findall(r"data\.range=\[(.*?), (.*?)\]", error.hint)
    if which == 0 and "signed" in error.hint:
        return  # these are on no scale that two values could tell
    reading = Reading(range=(float(says[0]), float(says[1])))
    source = _npz(tmp_path, make(train), make(test))
    told = data.published(source, reading=reading)
    for images, pixels in ((told.train.images, train), (told.test.images, test)):
        np.testing.assert_allclose(images, pixels / high * 255, atol=0.6)
    assert "as data.range says" in told.notes[0]


# what makes other values of bytes, and what a note says of it
KNOWN: dict[str, tuple[int, Make, str]] = {
    "scikit-learn's digits": (16, lambda x: x.astype(np.float64), "where 16 is white"),
    "bytes up to 16": (16, lambda x: x.astype(np.uint8), "where 16 is white"),
    "-1 to 1": (255, lambda x: x / 127.5 - 1, "where -1 is black and 1 is white"),
    "-1 to 1 in float16": (255, lambda x: (x / 127.5 - 1).astype("f2"), "where -1 is black"),
    "-1 and 1": (1, lambda x: (2 * x - 1).astype(np.int8), "-1/1 pixels: read as black and white"),
}


@pytest.mark.parametrize(("high", "make", "note"), KNOWN.values(), ids=KNOWN)
def test_a_scale_that_only_one_kind_of_images_has_is_read_and_said(
    high: int, make: Make, note: str, tmp_path: Path
) -> None:
    train, test = _pictures(TRAIN, high), _pictures(TEST, high)
    read = data.published(_npz(tmp_path, make(train), make(test)))
    for images, pixels in ((read.train.images, train), (read.test.images, test)):
        np.testing.assert_allclose(images, pixels / high * 255, atol=0.6)
    assert note in read.notes[0]


class TestRange:
    """Black and white as the configuration says."""

    def _read(self, folder: Path, low: float, high: float, make: Make) -> Published:
        source = _npz(folder, make(_pictures(TRAIN)), make(_pictures(TEST)))
        return data.published(source, reading=Reading(range=(low, high)))

    @pytest.mark.parametrize("kind", ["u1", "i8", "f2", "f8"])
    def test_values_beyond_are_cut_off(self, kind: str, tmp_path: Path) -> None:
        read = self._read(tmp_path, 100, 200, lambda x: x.astype(kind))
        expected = np.interp(_pictures(TRAIN), [100, 200], [0, 255])
        np.testing.assert_allclose(read.train.images, expected, atol=0.51)
        assert "cut off" in read.notes[0]

    def test_with_the_larger_value_first_images_are_inverted(self, tmp_path: Path) -> None:
        read = self._read(tmp_path, 255, 0, lambda x: x.astype(np.uint8))
        _same(read, 255 - _pictures(TRAIN), 255 - _pictures(TEST))
        read = self._read(tmp_path, 1, 0, lambda x: x > 127)
        _same(read, 255 * (_pictures(TRAIN) <= 127), 255 * (_pictures(TEST) <= 127))

    def test_one_that_leaves_nothing_of_the_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="all of them become 255 of 255") as error:
            self._read(tmp_path, -2, -1, lambda x: x / 255)
        assert "data.range=[0, 1]" in error.value.hint


# the values of the two splits, made of bytes; in which of them a recipe is given
TWO_SCALES: dict[str, tuple[Make, Make, str]] = {
    "0/1 and bytes": (lambda x: (x > 127).astype(np.uint8), lambda x: x.astype(np.uint8), "train"),
    "bytes and 0/1": (lambda x: x.astype(np.uint8), lambda x: (x > 127).astype(np.uint8), "test"),
    "0 to 1 and bytes": (lambda x: x / 255, lambda x: x.astype(np.uint8), "train"),
    "nearly to 1 and bytes": (lambda x: x / 256, lambda x: x.astype(np.uint8), "train"),
    "16 and 255": (lambda x: x / 255 * 16, lambda x: x.astype(np.uint8), "train"),
    "-1 to 1 and floats to 255": (lambda x: x / 127.5 - 1, lambda x: x * 1.0, "train"),
    "16 bits and 8": (lambda x: (257 * x).astype(np.uint16), lambda x: x.astype(np.uint8), "train"),
    "0/1 and 16": (lambda x: (x > 127).astype(np.uint8), lambda x: x / 255 * 16, "both"),
}


@pytest.mark.parametrize(("of_train", "of_test", "where"), TWO_SCALES.values(), ids=TWO_SCALES)
def test_splits_on_two_scales_are_refused_with_a_recipe_for_each_that_needs_one(
    of_train: Make, of_test: Make, where: str, tmp_path: Path
) -> None:
    train, test = _pictures(TRAIN), _pictures(TEST)
    made = {"train": of_train(train), "test": of_test(test)}
    error = _refused(_npz(tmp_path, made["train"], made["test"]))
    assert "not one scale" in error.message
    recipes = dict(
        zip(["train", "test"] if where == "both" else [where], _recipes(error), strict=True)
    )
    for split, recipe in recipes.items():
        made[split] = _carried_out(recipe, made[split])
    read = data.published(_npz(tmp_path, made["train"], made["test"]))
    for images, pixels in ((read.train.images, train), (read.test.images, test)):
        binary = len(np.unique(images)) == 2
        expected = np.where(pixels > 127, 255, 0) if binary else pixels
        # x / 256 is taken for intensities, which are off by one at most
        np.testing.assert_allclose(images, expected, atol=1.1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: np.where(x == 0, np.nan, x / 255), "NaN or infinite pixels"),
        (lambda x: np.where(x == 255, np.inf, x / 255), "NaN or infinite pixels"),
        (lambda x: x.astype(np.complex64), "of type complex64"),
        (lambda x: x.astype(str), "of type <U21"),
        (lambda x: x.astype("M8[s]"), r"of type datetime64\[s\]"),
        (lambda x: np.zeros(x.shape, [("a", "u1")]), r"of type \[\('a', 'u1'\)\]"),
        (lambda x: np.zeros(x.shape, np.uint8), "every pixel of its {} images is 0"),
        (lambda x: np.full(x.shape, 255, np.uint8), "every pixel of its {} images is 255"),
        (lambda x: np.full(x.shape, 0.25), r"every pixel of its {} images is 0\.25"),
        (lambda x: np.ones(x.shape, bool), "every pixel of its {} images is 255"),
    ],
)
@pytest.mark.parametrize("split", ["training", "test"])
def test_what_holds_no_pictures_is_refused_and_the_split_named(
    spoil: Make, message: str, split: str, tmp_path: Path
) -> None:
    train, test = _pictures(TRAIN), _pictures(TEST)
    arrays = [spoil(x) if split == name else x.astype(np.uint8)
              for name, x in (("training", train), ("test", test))]  # fmt: skip
    error = _refused(_npz(tmp_path, arrays[0], arrays[1]))
    assert re.search(message.format(split), error.message)
    assert f"{split} images" in error.message
    assert error.hint


@ANY
@given(
    x=arrays_of.arrays(
        st.sampled_from(["b1", "u1", "i1", "u2", "i2", "i8", "u8", "f2", "f4", "f8"]), (4, 3, 3)
    )
)
def test_any_array_loads_or_is_refused_and_recipes_keep_its_order(
    x: Array, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        read = data.published(_npz(folder, x, x))
    except DataError as error:
        recipes = [code for code in _recipes(error) if "interp" in code]
        with np.errstate(all="ignore"):
            spread = np.ptp(x.astype(float))
        if not recipes or not 1e-100 < spread < 1e100:
            return
        read = data.published(_npz(folder, *2 * [_carried_out(recipes[0], x)]))
    images = np.asarray(read.train.images)
    order = np.argsort(x, axis=None)
    assert (np.diff(images.reshape(-1)[order].astype(int)) >= 0).all()
    assert images.max() >= 63


def _rgb(x: Array, *more: Array) -> Array:
    """Images whose red is x, green is x from below, and blue is x from the right."""
    return np.stack([x, x[:, ::-1], x[:, :, ::-1], *more], -1)


SHAPES: dict[str, tuple[Make, Make, int]] = {
    "opacity": (lambda x: _rgb(x, 0 * x), lambda x: _rgb(x), 0),
    "opacity before rows": (
        lambda x: np.moveaxis(_rgb(x, 0 * x), -1, 1),
        lambda x: np.moveaxis(_rgb(x), -1, 1),
        0,
    ),
    "flat": (lambda x: x.reshape(len(x), -1), lambda x: x, 0),
    "one image and its channel": (lambda x: x[0, ..., None], lambda x: x[:1], 0),
    "one colour image": (lambda x: _rgb(x)[0], lambda x: _rgb(x[:1]), 0),
    "one image with opacity": (lambda x: _rgb(x, 0 * x)[0], lambda x: _rgb(x[:1]), 0),
}


@pytest.mark.parametrize(("shape", "wanted", "which"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "scale",
    [
        lambda x: x.astype(np.uint8),
        lambda x: (x // 128).astype(np.uint8),
        lambda x: (x / 255).astype(np.float32),
        lambda x: x > 127,
    ],
    ids=["bytes", "0/1", "floats", "booleans"],
)
def test_other_axes_are_refused_with_a_recipe_that_gives_the_right_picture(
    shape: Make, wanted: Make, which: int, scale: Make, tmp_path: Path
) -> None:
    train, test = scale(_pictures(TRAIN)), scale(_pictures(TEST))
    error = _refused(_npz(tmp_path, shape(train), shape(test)))
    assert f"x_train has the shape {shape(train).shape}" in error.message
    recipe = _recipes(error)[which]
    made = [_carried_out(recipe, shape(x), height=9, width=8) for x in (train, test)]
    read = data.published(_npz(tmp_path, made[0], made[1]))
    plain = data.published(_npz(tmp_path, wanted(train), wanted(test)))
    _same(read, np.asarray(plain.train.images), np.asarray(plain.test.images))


# other axes, those that they are read as, and what a note says
READ_AS: dict[str, tuple[Make, Make, str]] = {
    "channels first": (lambda x: np.moveaxis(_rgb(x), -1, 1), lambda x: _rgb(x), "channels first"),
    "flat and square": (
        lambda x: x[:, :8].reshape(len(x), -1),
        lambda x: x[:, :8],
        "rows of 64 numbers: read as images of 8x8 pixels",
    ),
    "numbers": (
        lambda x: x[:, 0, :7],
        lambda x: x[:, :1, :7],
        "rows of 7 numbers: read as images of 7x1 pixels",
    ),
}


@pytest.mark.parametrize(("shape", "wanted", "note"), READ_AS.values(), ids=READ_AS)
@pytest.mark.parametrize("scheme", ["npz", "npy"])
def test_other_axes_that_can_be_one_thing_only_are_read_and_said(
    shape: Make, wanted: Make, note: str, scheme: str, tmp_path: Path
) -> None:
    train, test = (_pictures(n).astype(np.uint8) for n in (TRAIN, TEST))
    source = _npz(tmp_path, shape(train), shape(test))
    if scheme == "npy":
        for name, array in (("x_train", train), ("x_test", test)):
            np.save(tmp_path / f"{name}.npy", np.ascontiguousarray(shape(array)))
        source = f"npy:{tmp_path}"
    read = data.published(source)
    _same(read, wanted(train), wanted(test))
    assert note in read.notes[0]
    if scheme == "npy":
        assert read.fingerprint() == data.published(f"npz:{tmp_path / 'x.npz'}").fingerprint()


# rows of so many numbers, and the shapes that may be meant
MANY_SHAPES = {
    72: [[9, 8], [8, 9], [1, 72]],
    560: [[28, 20], [20, 28], [1, 560]],
    3 * 25: [[5, 5, 3], [3, 5, 5], [1, 75]],
    3072: [[32, 32, 3], [3, 32, 32], [64, 48], [48, 64], [1, 3072]],
}


@pytest.mark.parametrize(("numbers", "shapes"), MANY_SHAPES.items())
def test_rows_that_may_be_images_of_several_shapes_are_refused_with_each(
    numbers: int, shapes: list[list[int]], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (9, numbers), dtype=np.uint8)
    rows[:, :2] = 0, 255
    source = _npz(tmp_path, rows, rows)
    hint = _refused(source).hint
    assert re.findall(r"data\.shape=(\[.*?\])", hint) == [str(shape) for shape in shapes]
    for shape in shapes:
        read = data.published(source, reading=Reading(shape=tuple(shape)))
        wanted = rows.reshape(-1, *shape)
        wanted = np.moveaxis(wanted, 1, -1) if shape[0] == 3 and shape[-1] != 3 else wanted
        _same(read, wanted, wanted)
    with pytest.raises(DataError, match=f"{numbers} numbers for each image"):
        data.published(source, reading=Reading(shape=(7, 11)))


@pytest.mark.parametrize("axis", [1, -1])
def test_an_axis_of_one_channel_may_come_before_or_after(axis: int, tmp_path: Path) -> None:
    train, test = (_pictures(n).astype(np.uint8) for n in (TRAIN, TEST))
    read = data.published(_npz(tmp_path, np.expand_dims(train, axis), np.expand_dims(test, axis)))
    _same(read, train, test)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_of_three_channels_are_rgb(kind: Any, tmp_path: Path) -> None:
    train, test = _rgb(_pictures(TRAIN)), _rgb(_pictures(TEST))
    white = 255 if kind is np.uint8 else 1
    made = [(images / 255 * white).astype(kind) for images in (train, test)]
    source = _npz(tmp_path, made[0], made[1])
    _same(data.published(source), train, test)
    read = data.load(config.Data(source=source, binarization="none"))
    assert read.image_shape == (9, 8, 3)
    np.testing.assert_array_equal(read.test.images, test)
    assert not any("channels" in note for note in read.notes)
    binary = data.load(config.Data(source=source))
    np.testing.assert_array_equal(binary.test.images, np.where(test >= 128, 255, 0))
    assert any("3 channels, each binarized at 0.5" in note for note in binary.notes)


@pytest.mark.parametrize("shape", [(), (5,), (0, 9, 8), (4, 9, 8, 2), (2, 3, 4, 5, 6)])
def test_what_no_reshaping_helps_is_refused_without_a_recipe(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    error = _refused(_npz(tmp_path, np.ones(shape, np.uint8), np.ones(shape, np.uint8)))
    assert f"has the shape {shape}" in error.message
    assert error.hint
    assert not _recipes(error)


class TestOtherSources:
    """All sources pass the same check."""

    def _idx(self, folder: Path, high: int) -> str:
        for name, count in (("train", TRAIN), ("t10k", TEST)):
            (folder / f"{name}-images-idx3-ubyte").write_bytes(_idx(_pictures(count, high)))
        return f"idx:{folder}"

    def _prepare(self, monkeypatch: pytest.MonkeyPatch, folder: Path, make: Make) -> str:
        """A data set as TFDS hands it out: records of images that have an axis for the channel."""
        splits = {"train": _pictures(TRAIN, 1), "test": _pictures(TEST, 1)}
        info = SimpleNamespace(
            full_name="bw/1.0.0",
            features={"image": SimpleNamespace(shape=(9, 8, 1))},
            splits=list(splits),
        )
        builder = SimpleNamespace(
            info=info,
            is_prepared=lambda: True,
            as_data_source=lambda split: [{"image": make(x)[..., None]} for x in splits[split]],
        )
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(folder))
        monkeypatch.setattr(tfds, "_builder", lambda name: builder)  # noqa: ARG005
        return "tfds:bw"

    def test_idx_files_of_zeros_and_ones(self, tmp_path: Path) -> None:
        read = data.published(self._idx(tmp_path, 1))
        _same(read, 255 * _pictures(TRAIN, 1), 255 * _pictures(TEST, 1))
        assert read.notes == BLACK_AND_WHITE

    def test_idx_files_up_to_15(self, tmp_path: Path) -> None:
        error = _refused(self._idx(tmp_path, 15))
        (recipe,) = _recipes(error)
        made = [_carried_out(recipe, _pictures(n, 15).astype(np.uint8)) for n in (TRAIN, TEST)]
        read = data.published(_npz(tmp_path, made[0], made[1]))
        np.testing.assert_allclose(read.test.images, _pictures(TEST, 15) * 255 / 15, atol=0.6)

    @pytest.mark.parametrize(
        "make", [lambda x: x.astype(np.uint8), lambda x: x > 0, lambda x: x.astype(np.float32)]
    )
    def test_prepared_sets_of_zeros_and_ones(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = self._prepare(monkeypatch, tmp_path, make)
        for _ in range(2):  # the second time from the cache
            read = data.published(name)
            _same(read, 255 * _pictures(TRAIN, 1), 255 * _pictures(TEST, 1))
            assert read.notes == (() if make(np.ones(1)).dtype == bool else BLACK_AND_WHITE)

    def test_prepared_sets_of_16_bits_do_not_wrap_around(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = self._prepare(monkeypatch, tmp_path, lambda x: (65535 * x).astype(np.uint16))
        assert "pixels have values from 0 to 65535" in _refused(name).message


class TestBinarized:
    """What a model sees."""

    @pytest.mark.parametrize("binarization", ["threshold", "stochastic", "static", "none"])
    @pytest.mark.parametrize("make", [np.uint8, np.float64, bool])
    def test_zeros_and_ones_are_black_and_white_under_every_binarization(
        self, binarization: str, make: Any, tmp_path: Path
    ) -> None:
        train, test = _pictures(TRAIN, 1), _pictures(TEST, 1)
        source = _npz(tmp_path, train.astype(make), test.astype(make))
        read = data.load(
            config.Data.model_validate({"source": source, "binarization": binarization})
        )
        flat = 255 * train.reshape(TRAIN, -1)
        np.testing.assert_array_equal(read.train.flat, flat[:10])
        np.testing.assert_array_equal(read.validation.flat, flat[10:])
        np.testing.assert_array_equal(read.test.flat, 255 * test.reshape(TEST, -1))

    @pytest.mark.parametrize(
        ("high", "low", "threshold", "change"),
        [(100, 0, 0.5, "lower"), (254, 0, 1.0, "lower"), (255, 30, 0.1, "raise")],
    )
    @pytest.mark.parametrize("part", ["train", "validation", "test"])
    def test_a_threshold_beyond_all_pixels_of_a_split_is_refused_with_one_between(
        self, high: int, low: int, threshold: float, change: str, part: str, tmp_path: Path
    ) -> None:
        both = np.tile(np.array([0, 255], np.uint8), (TRAIN + TEST, 9, 4))
        rows = {"train": slice(10), "validation": slice(10, 12), "test": slice(12, None)}[part]
        both[rows] = np.clip(_pictures(len(both[rows])), low, high)
        source = _npz(tmp_path, both[:TRAIN], both[TRAIN:])
        with pytest.raises(DataError) as error:
            data.load(config.Data(source=source, threshold=threshold))
        assert f"every pixel of the {part} split is {0 if change == 'lower' else 255}, binarized" \
            in error.value.message  # fmt: skip
        suggested = re.fullmatch(
            rf"{change} data\.threshold: ([\d.]+) lies between", error.value.hint
        )
        assert suggested
        read = data.load(config.Data(source=source, threshold=float(suggested[1])))
        assert 0 < getattr(read, part).images.mean() < 255

    @pytest.mark.parametrize("binarization", ["threshold", "stochastic", "static", "none"])
    @pytest.mark.parametrize("value", [0, 255])
    def test_a_part_without_a_picture_is_refused(
        self, binarization: str, value: int, tmp_path: Path
    ) -> None:
        train, test = (_pictures(n).astype(np.uint8) for n in (TRAIN, TEST))
        train[-2:] = value
        settings = {"source": _npz(tmp_path, train, test), "binarization": binarization}
        with pytest.raises(DataError, match=f"every pixel of the validation split is {value}$"):
            data.load(config.Data.model_validate(settings))
        data.load(config.Data.model_validate(settings | {"validation_size": 3, "train_size": 9}))


SMALL = ("--epochs", 1, "--hidden-size", 4, "--code-size", 2, "--device", "cpu")


def test_every_command_that_trains_or_prepares_says_how_pixels_were_read(
    vaectl: Vaectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch.setattr)
    train, test = (_pictures(n, 1).astype(np.uint8) for n in (TRAIN, TEST))
    source = _npz(tmp_path, train, test)
    note = f"note: {BLACK_AND_WHITE[0]}\n"
    setting = ("--set", f"data.source={source}")
    compared = ("--optimizers", "adam", "--protocol", "paper", "--seeds", 1, "--epochs", 1)
    for command in (
        ("data", "prepare", source),
        ("train", *setting, *SMALL),
        ("compare-optimizers", *setting, "--set", "model.hidden_size=4", *compared),
    ):
        answer = vaectl(*command)
        assert answer.code == 0
        assert answer.err.count(note) == 1
        assert note not in answer.out
    assert vaectl("data", "prepare", source, "--quiet").err == ""


def test_a_run_on_a_scale_that_is_refused_leaves_nothing(vaectl: Vaectl, tmp_path: Path) -> None:
    source = _npz(tmp_path, *(_pictures(n, 15).astype(np.uint8) for n in (TRAIN, TEST)))
    answer = vaectl("train", "--set", f"data.source={source}", *SMALL)
    assert answer.code == 3
    assert "np.interp(x, [0, 15], [0, 255]).round().astype(np.uint8)" in answer.err
    assert not list((tmp_path / "runs").glob("*"))
