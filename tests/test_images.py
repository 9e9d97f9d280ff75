"""Folders of pictures: what is read, how it is divided, and what is refused."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import Vaectl
from tests.test_bad_data import EDITS, ODD, Edits, _edited, _loads_or_is_refused
from tests.test_config import ANY
from vaectl import data
from vaectl.base.errors import DataError
from vaectl.data import pictures
from vaectl.data.arrays import Images, Published, divide
from vaectl.data.drawings import are_drawings
from vaectl.data.reading import Reading
from vaectl.data.settings import Data
from vaectl.data.sources.base import parse
from vaectl.data.sources.images import SUFFIXES, ImageFolder
from vaectl.data.stored import Stored

Array = np.ndarray[Any, Any]


def _grey(seed: int, height: int = 6, width: int = 5) -> Array:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    levels[0, :2] = 0, 255
    return levels


def _rgb(seed: int, height: int = 6, width: int = 5) -> Array:
    return np.stack([_grey(3 * seed + i, height, width) for i in range(3)], -1)


def _save(folder: Path, pictures: dict[str, Array]) -> Path:
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


def _flat(folder: Path, count: int = 9) -> Path:
    return _save(folder, {f"{number:03}.png": _grey(number) for number in range(count)})


def _read(folder: Path) -> Published:
    return data.published(f"images:{folder}")


def _all(found: Published) -> Array:
    return np.concatenate([found.train.images, found.test.images])


def _refused(folder: Path) -> DataError:
    with pytest.raises(DataError) as error:
        _read(folder)
    assert error.value.exit_code == 3
    assert error.value.hint
    return error.value


def _as_set(images: Array) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_a_flat_folder_has_no_labels_and_every_picture_once(tmp_path: Path) -> None:
    found = _read(_flat(tmp_path, 21))
    assert (found.train.labels, found.test.labels) == (None, None)
    assert found.train.images.shape == (18, 6, 5)
    assert found.test.images.shape == (3, 6, 5)
    assert _as_set(_all(found)) == {_grey(number).tobytes() for number in range(21)}
    assert found.notes[0] == "21 grey pictures of 5x6 pixels, without classes"
    assert "no test split: 3 of 21 images" in found.notes[1]


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    labels = {"b": 1, "a": 0, "c d": 2}
    pictures = {
        f"{name}/{'deeper/' * (i % 2)}{i}.png": _grey(100 * label + i)
        for name, label in labels.items()
        for i in range(14)
    }
    (tmp_path / "empty").mkdir()
    found = _read(_save(tmp_path, pictures))
    of_picture = {_grey(100 * label + i).tobytes(): label for label in range(3) for i in range(14)}
    for part in (found.train, found.test):
        assert part.labels is not None
        for image, label in zip(np.asarray(part.images), part.labels, strict=True):
            assert of_picture[image.tobytes()] == label
        assert np.bincount(part.labels).tolist() == 3 * [len(part.images) // 3]
    assert "3 (a, b, c d)" in found.notes[0]


def _in_splits(folder: Path, splits: dict[str, str], count: int = 7) -> Path:
    """Make pictures of classes a and b in folders of splits; each knows its place by its seed."""
    return _save(
        folder,
        {
            f"{name}/{kind}/{i}.png": _grey(1000 * len(split) + 100 * ord(kind) + i)
            for name, split in splits.items()
            for kind in "ab"
            for i in range(count)
        },
    )


@pytest.mark.parametrize("most", [None, 0])
@pytest.mark.parametrize(
    "splits",
    [{"train": "train", "test": "test"}, {"train": "train"},
     {"Training": "train", "TEST": "test", "valid": "validation"},
     {"train_images": "train", "val": "validation"}],
)  # fmt: skip
def test_subfolders_named_as_splits_are_splits(
    splits: dict[str, str], most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    found = data.published(f"images:{_in_splits(tmp_path / 'my', splits)}", most)
    of = {
        _grey(1000 * len(split) + 100 * ord(kind) + i).tobytes(): (split, label)
        for split in ("train", "test", "validation")
        for label, kind in enumerate("ab")
        for i in range(7)
    }
    assert found.classes == ("a", "b")
    assert found.validation_size == (14 if "validation" in splits.values() else None)
    for name, part in (("train", found.train), ("test", found.test)):
        assert part.labels is not None
        pictures = [of[image.tobytes()] for image in np.asarray(part.images)]
        assert [label for _, label in pictures] == part.labels.tolist()
        if name == "test" and "test" in splits.values():
            assert {split for split, _ in pictures} == {"test"}
        elif name == "train":
            last = found.validation_size or 0
            held_out = pictures[len(pictures) - last :]
            assert {split for split, _ in held_out} <= {"validation"}
            assert not held_out or {label for _, label in held_out[-4:]} == {0, 1}  # shuffled
            assert {split for split, _ in pictures[: len(pictures) - last]} == {"train"}
    if len(splits) > 1:
        assert any(note.startswith("splits by subfolder, ") for note in found.notes)
    read = data.load(Data(source=f"images:{tmp_path / 'my'}"))
    if "validation" not in splits.values():  # a sixth of train, of both classes
        assert {*np.asarray(read.validation.labels)} == {0, 1}


def test_a_split_may_have_no_classes(tmp_path: Path) -> None:
    """Kaggle's test pictures have none."""
    _in_splits(tmp_path, {"train": "train"})
    found = _read(_save(tmp_path, {f"test/{i}.png": _grey(i) for i in range(3)}))
    assert found.train.labels is not None
    assert found.test.labels is None
    assert _as_set(np.asarray(found.test.images)) == {_grey(i).tobytes() for i in range(3)}


@pytest.mark.parametrize(
    ("names", "words"),
    [(("train", "test", "extra"), "train are named as splits, and extra is not"),
     (("test", "val"), "none has training images"),
     (("train", "training"), "two of them as one split")],
)  # fmt: skip
def test_subfolders_that_may_be_splits_are_asked_about(
    names: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    _save(tmp_path, {f"{name}/{i}.png": _grey(i) for name in names for i in range(3)})
    error = _refused(tmp_path)
    assert words in error.message
    assert "train, test and" in error.hint


@pytest.mark.parametrize("names", [("test",), ("train",), ("bus", "car", "train")])
def test_a_class_may_be_named_as_a_split_is(names: tuple[str, ...], tmp_path: Path) -> None:
    _save(tmp_path, {f"{name}/{i}.png": _grey(i) for name in names for i in range(3)})
    assert _read(tmp_path).classes == names


def test_what_is_read_depends_on_names_and_pixels_alone(tmp_path: Path) -> None:
    names = [f"{kind}/{i}.png" for kind in "ab" for i in range(9)]
    one = _save(tmp_path / "one", {name: _grey(i) for i, name in enumerate(names)})
    other = _save(tmp_path / "two", {n: _grey(i) for i, n in reversed([*enumerate(names)])})
    assert _read(one).fingerprint() == _read(other).fingerprint()
    (other / names[0]).rename(other / "a" / "99.png")
    assert _read(one).fingerprint() != _read(other).fingerprint()


@pytest.mark.parametrize("count", [3, 4, 7, 50, 999])
@pytest.mark.parametrize("classes", [None, 1, 3])
def test_images_without_splits_are_divided_evenly(count: int, classes: int | None) -> None:
    numbers = np.arange(count, dtype=np.uint16).reshape(-1, 1, 1)
    labels = None if classes is None else (np.arange(count) * classes // count).astype(np.int32)
    found = divide("x", Images(numbers, labels), ("note",))
    assert len(found.test.images) == max(count // 7, 1)
    assert sorted(_all(found).ravel().tolist()) == list(range(count))
    assert found.notes[0] == "note"
    again = divide("x", Images(numbers, labels))
    np.testing.assert_array_equal(_all(found), _all(again))
    if count > 10:
        assert not (np.diff(_all(found).ravel().astype(int)) == 1).all()
    if labels is None or classes is None:
        return
    for part in (found.train, found.test):
        assert part.labels is not None
        np.testing.assert_array_equal(part.labels, labels[np.ravel(part.images)])
        for size in (-(-len(part.images) // 3), len(part.images)):
            for some in (part.labels[:size], part.labels[-size:]):
                expected = size * np.bincount(labels) / count
                assert (abs(np.bincount(some, minlength=classes) - expected) < 2).all()


def test_the_division_never_changes() -> None:
    """Runs go on only with the images that they were trained on."""
    numbers = np.arange(10).reshape(-1, 1, 1)
    plain = divide("x", Images(numbers, None))
    classes = divide("x", Images(numbers, (numbers.ravel() // 5).astype(np.int32)))
    assert _all(plain).ravel().tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert _all(classes).ravel().tolist() == [0, 9, 2, 8, 1, 5, 4, 6, 3, 7]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_images_are_refused(count: int, tmp_path: Path) -> None:
    tmp_path.joinpath("notes.txt").touch()
    message = _refused(_flat(tmp_path, count)).message
    assert (f"{count} image" in message) == (count > 0)
    assert ("no pictures" in message) == (count == 0)


# the mode in which a picture is saved, the suffix of its file, and the mean error
KINDS = [
    *(("L", suffix, 0) for suffix in (".png", ".bmp", ".gif", ".tif", ".TIFF", ".pgm", ".pnm")),
    *(("RGB", suffix, 0) for suffix in (".png", ".bmp", ".tif", ".PPM", ".gif")),
    *(("P", suffix, 0) for suffix in (".png", ".gif", ".bmp", ".tiff")),
    *(("1", suffix, 0) for suffix in (".png", ".pbm", ".bmp", ".tif", ".gif")),
    *(("I;16", suffix, 0) for suffix in (".png", ".tif", ".pgm")),
    *(("LA", ".png", 0), ("RGBA", ".png", 0), ("RGBA", ".webp", 0), ("CMYK", ".tif", 0)),
    *(("RGB", ".jpg", 20), ("L", ".JPEG", 5), ("CMYK", ".jpeg", 20)),
]


@pytest.mark.parametrize(("mode", "suffix", "error"), KINDS)
def test_every_format_and_mode_gives_its_pixels(
    mode: str, suffix: str, error: int, tmp_path: Path
) -> None:
    grey = mode in ("L", "LA", "1", "I;16")
    # smooth, few values: nothing that a palette or JPEG could not hold
    rows, columns = np.mgrid[:16, :16]
    pixels = np.where(rows < 8, 0, 255).astype(np.uint8)
    if mode != "1":
        pixels[:, 8:] = 85
    if not grey:
        pixels = np.stack([pixels, pixels, np.where(columns < 8, 255, 0).astype(np.uint8)], -1)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode, palette=Image.Palette.ADAPTIVE)
    for number in range(3):
        options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
        image.save(tmp_path / f"{number}{suffix}", **options)
    found = _read(tmp_path)
    assert found.train.image_shape == (16, 16, 1 if grey else 3)
    assert np.abs(found.test.images[0].astype(int) - pixels).mean() <= error


def test_grey_pictures_become_rgb_beside_colours(tmp_path: Path) -> None:
    _flat(tmp_path)
    _save(tmp_path, {"zz.png": _rgb(1), "grey-rgb.png": np.stack(3 * [_grey(50)], -1)})
    found = _read(tmp_path)
    grey = {np.stack(3 * [_grey(number)], -1).tobytes() for number in (*range(9), 50)}
    assert _as_set(_all(found)) == grey | {_rgb(1).tobytes()}
    assert found.notes[0] == "11 RGB pictures of 5x6 pixels, without classes"
    (tmp_path / "zz.png").unlink()
    assert _read(tmp_path).train.image_shape == (6, 5, 1)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    opacity = np.where(np.arange(30).reshape(6, 5) % 2, 255, 0).astype(np.uint8)
    for number in range(3):
        pixels = np.concatenate([_rgb(number), opacity[..., np.newaxis]], -1)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    expected = {np.where(opacity[..., None], _rgb(i), 255).astype("u1").tobytes() for i in range(3)}
    assert _as_set(_all(_read(tmp_path))) == expected


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16", "P"])
def test_a_transparent_colour_becomes_white(mode: str, tmp_path: Path) -> None:
    """A PNG without an opacity for each pixel may still name one colour as transparent."""
    pixels = np.full((6, 5), 255, np.uint8)
    pixels[2:, 3:] = 0
    pixels[1, 1] = 0 if mode == "1" else 102
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode, palette=Image.Palette.ADAPTIVE)
    clear: Any = image.getpixel((4, 5))
    for number in range(3):
        image.save(tmp_path / f"{number}.png", transparency=clear)
    expected = np.where(pixels == 0, 255, pixels)
    found = parse(f"images:{tmp_path}").load()
    np.testing.assert_array_equal(_all(found), np.stack(3 * [expected]))


def _wide(folder: Path, levels: Array, suffix: str = ".png") -> Path:
    """Save three grey pictures of 16 bits."""
    folder.mkdir(exist_ok=True)
    for number in range(3):
        Image.fromarray(np.roll(levels, number).astype(np.uint16)).save(
            folder / f"{number}{suffix}"
        )
    return folder


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize("most", [None, 0])
def test_pictures_of_12_bits_in_files_of_16_keep_their_levels(
    suffix: str, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    levels = np.arange(4096).reshape(64, 64)
    source = f"images:{_wide(tmp_path / 'my', levels, suffix)}"
    for _ in range(2):  # also once they may be prepared
        with pytest.raises(DataError, match="values from 0 to 4095") as error:
            data.published(source, most)
        assert "data.range=[0, 4095]" in error.value.hint
    found = data.published(source, most, Reading(range=(0, 4095)))
    expected = np.rint(levels * 255 / 4095).astype(np.uint8)
    assert _as_set(_all(found)) == {np.roll(expected, i).tobytes() for i in range(3)}
    small = data.published(source, most, Reading(range=(0, 4095), size=(32, 32), channels=3))
    assert small.train.image_shape == (32, 32, 3)
    assert len(np.unique(_all(small))) > 100


def test_pictures_of_8_bits_in_files_of_16_are_bytes(tmp_path: Path) -> None:
    levels = np.arange(256).reshape(16, 16)
    for reading in (Reading(), Reading(range=(0, 255))):
        found = data.published(f"images:{_wide(tmp_path / 'my', levels)}", reading=reading)
        assert _as_set(_all(found)) == {
            np.roll(levels, i).astype(np.uint8).tobytes() for i in range(3)
        }


def test_prepared_pictures_of_16_bits_whose_first_one_is_dark_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder = _wide(tmp_path / "my", np.arange(0, 65536, 256).reshape(16, 16))
    dark = np.arange(256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(dark).save(folder / "0.png")
    held = data.published(f"images:{folder}").fingerprint()
    for _ in range(2):
        assert data.published(f"images:{folder}", 0).fingerprint() == held


def test_prepared_pictures_of_16_bits_are_found_again_with_their_range_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder = _wide(tmp_path / "my", np.linspace(0, 4112, 256).astype(int).reshape(16, 16))
    data.published(f"images:{folder}", 0, Reading(range=(0, 255)))
    with pytest.raises(DataError, match="from 0 to 4112"):
        data.published(f"images:{folder}", 0)


@pytest.mark.parametrize("brightest", [65535, 16320])
def test_all_levels_of_16_bits_are_read_as_ever(brightest: int, tmp_path: Path) -> None:
    """Runs know their data by their bytes."""
    levels = np.minimum(np.arange(65536), brightest).reshape(256, 256)
    folder = _wide(tmp_path / "my", levels)
    expected = np.rint(levels / 257).astype(np.uint8)
    assert _as_set(_all(_read(folder))) == {np.roll(expected, i).tobytes() for i in range(3)}
    found = data.published(f"images:{folder}", reading=Reading(range=(255, 0)))
    assert _as_set(_all(found)) == {np.roll(255 - expected, i).tobytes() for i in range(3)}
    found = data.published(f"images:{folder}", reading=Reading(size=(99, 99)))
    resized = [Image.fromarray(np.roll(expected, i)).resize((99, 99), 1) for i in range(3)]
    assert _as_set(_all(found)) == {np.asarray(image).tobytes() for image in resized}


def test_levels_of_16_bits_whose_white_is_not_known_do_not_compare_with_bytes(
    tmp_path: Path,
) -> None:
    _wide(tmp_path, np.arange(4096).reshape(64, 64))
    _save(tmp_path, {"a.png": _grey(1, 64, 64)})
    error = _refused(tmp_path)
    assert "a.png: not a readable picture: it has 8 bits, others have 16" in error.message


def test_pictures_are_upright(tmp_path: Path) -> None:
    for number in range(3):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned
        Image.fromarray(_grey(number)).save(tmp_path / f"{number}.png", exif=exif)
    assert _as_set(_all(_read(tmp_path))) == {np.rot90(_grey(i), -1).tobytes() for i in range(3)}


def test_hidden_files_and_those_that_are_no_pictures_are_counted(tmp_path: Path) -> None:
    _save(tmp_path, {f"{kind}/{i}.png": _grey(i) for kind in "ab" for i in range(3)})
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.png").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = _read(tmp_path)
    assert len(_all(found)) == 6
    assert found.notes[0].endswith("classes by subfolder: 2 (a, b)")
    assert "skipped 4, hidden" in found.notes[1]
    assert ".cache" in found.notes[1]


@pytest.mark.parametrize("most", [None, 0])
@pytest.mark.parametrize("kind", ["tif", "gif", "webp", "png"])
def test_of_several_frames_the_first_is_read_and_a_note_says_so(
    kind: str, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    for number in range(4):
        first, *others = [Image.fromarray(_grey(20 * number + frame)) for frame in range(20)]
        place = tmp_path / "stacks" / f"{number}.{kind}"
        place.parent.mkdir(exist_ok=True)
        first.save(place, save_all=True, append_images=others, lossless=True)
    source = f"images:{tmp_path / 'stacks'}"
    read = data.published(source) if most is None else data.published(source, most)
    assert _as_set(_all(read)) == _as_set(np.stack([_grey(20 * n) for n in range(4)]))
    assert [note for note in read.notes if "several frames or pages, up to 20" in note]
    held = _save(tmp_path / "others", {f"{i}.{kind}": _grey(i) for i in range(4)})
    assert not [note for note in _read(held).notes if "frames" in note]


def test_a_stack_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    pages = [Image.fromarray(_grey(page)) for page in range(61)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    assert "only the first" in _refused(tmp_path).hint


def test_links_to_files_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    real = _flat(tmp_path / "real")
    (tmp_path / "links").mkdir()
    for file in real.iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    assert _read(tmp_path / "links").fingerprint() == _read(real).fingerprint()


def test_two_sizes_are_refused_with_a_file_of_each(tmp_path: Path) -> None:
    _flat(tmp_path)
    _save(tmp_path, {"b.png": _grey(1, 6, 7), "c.png": _grey(1, 7, 7)})
    error = _refused(tmp_path)
    assert f"{tmp_path}/000.png has 5x6 pixels, {tmp_path}/b.png has 7x6" in error.message
    assert "data.size" in error.hint


WIDE = np.zeros((10, 30, 3), np.uint8)
WIDE[:, 10:20] = 200, 100, 0


@pytest.mark.parametrize(
    ("resize", "corner", "middle"),
    [("crop", (200, 100, 0), (200, 100, 0)), ("stretch", (0, 0, 0), (200, 100, 0)),
     ("pad", (0, 0, 0), (200, 100, 0))],
)  # fmt: skip
def test_pictures_are_brought_to_one_size_as_asked(
    resize: Any, corner: tuple[int, ...], middle: tuple[int, ...], tmp_path: Path
) -> None:
    _save(tmp_path, {f"{i}.png": WIDE for i in range(3)})
    _save(tmp_path, {f"{i}.png": np.repeat(WIDE, i, axis=0) for i in range(3, 6)})
    reading = Reading(size=(12, 12), resize=resize)
    found = data.published(f"images:{tmp_path}", reading=reading)
    assert found.train.image_shape == (12, 12, 3)
    wide = next(image for image in _all(found) if resize != "pad" or not image[0].any())
    np.testing.assert_allclose(wide[0, 0], corner, atol=20)  # edges are a little blurred
    np.testing.assert_allclose(wide[6, 6], middle, atol=20)
    assert any("pictures of other sizes" in note for note in found.notes)


@pytest.mark.parametrize(
    ("wide", "ends"),
    [
        (_grey(0, 5, 20), (255, 0)),
        (_rgb(0, 5, 20), (255, 0)),
        (16 * _grey(0, 5, 20).astype(np.uint16), (4095, 0)),
        (_grey(0, 5, 20), (0, 255)),
    ],
    ids=["grey", "RGB", "12 bits", "not inverted"],
)
def test_borders_are_black_also_if_images_are_inverted(
    wide: Array, ends: tuple[float, ...], tmp_path: Path
) -> None:
    _save(tmp_path, {f"{i}.png": np.roll(wide, i, axis=1) for i in range(4)})
    reading = Reading(size=(10, 10), resize="pad", range=ends)
    images = _all(data.published(f"images:{tmp_path}", reading=reading))
    assert not images[:, [0, -1]].any()
    assert images[:, 4:6].any()


@pytest.mark.parametrize("sides", [(1, 100), (100, 1)])
def test_a_picture_too_narrow_to_be_padded_is_refused(
    sides: tuple[int, int], tmp_path: Path
) -> None:
    _save(_flat(tmp_path), {"narrow.png": np.zeros(sides, np.uint8)})
    with pytest.raises(DataError, match=r"narrow\.png.*too narrow to be padded to 8x8 pixels"):
        data.published(f"images:{tmp_path}", reading=Reading(size=(8, 8), resize="pad"))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_have_the_channels_that_are_asked_for(channels: Any, tmp_path: Path) -> None:
    _save(tmp_path, {"a.png": _grey(1), "b.png": _rgb(2), "c.png": _grey(3)})
    found = data.published(f"images:{tmp_path}", reading=Reading(channels=channels))
    assert found.train.image_shape == (6, 5, channels)
    grey = np.asarray(Image.fromarray(_rgb(2)).convert("L"))
    wanted = grey if channels == 1 else _rgb(2)
    assert wanted.tobytes() in _as_set(_all(found))


def test_prepared_pictures_are_those_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder = _save(tmp_path / "pictures", {f"{i}.png": _rgb(i, 6 + i, 9) for i in range(5)})
    readings = [
        Reading(size=(4, 4)), Reading(size=(4, 4), resize="pad"), Reading(size=(4, 5)),
        Reading(size=(4, 4), channels=1), Reading(size=(4, 4), resize="pad", range=(255, 0)),
    ]  # fmt: skip
    found = [data.published(f"images:{folder}", 0, reading) for reading in readings]
    held = [data.published(f"images:{folder}", reading=reading) for reading in readings]
    assert [each.fingerprint() for each in found] == [each.fingerprint() for each in held]
    assert len({each.fingerprint() for each in found}) == len(readings)
    assert all(isinstance(each.train.images, Stored) for each in found)


def test_pictures_beside_classes_are_refused(tmp_path: Path) -> None:
    _flat(tmp_path)
    message = _refused(_save(tmp_path, {"a/1.png": _grey(1)})).message
    assert "000.png and a/1.png" in message


@pytest.mark.parametrize("more", [{}, {"x.png": _rgb(1)}])
def test_pictures_that_do_not_fit_into_memory_are_decoded_once_into_a_file(
    more: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder, decoded = _save(_flat(tmp_path / "pictures"), more), []
    held = _read(folder)
    pixels = pictures._pixels

    def counted(image: Image.Image) -> Array:
        decoded.append(1)
        return pixels(image)

    monkeypatch.setattr(pictures, "_pixels", counted)
    for _ in range(2):
        decoded.clear()
        stored = data.published(f"images:{folder}", 0)
        assert isinstance(stored.train.images, Stored)
        assert stored.fingerprint() == held.fingerprint()
        assert stored.notes == held.notes
    assert len(decoded) == 1  # which tells whether all would fit
    first = folder / "000.png"
    times = first.stat()
    first.write_bytes(first.with_name("001.png").read_bytes())
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = data.published(f"images:{folder}", 0).fingerprint()
    assert changed == _read(folder).fingerprint() != held.fingerprint()


def test_pictures_that_change_while_they_are_decoded_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder = _flat(tmp_path / "pictures")
    pixels = pictures._pixels

    def meanwhile(image: Image.Image) -> Array:
        (folder / "005.png").touch()
        return pixels(image)

    monkeypatch.setattr(pictures, "_pixels", meanwhile)
    with pytest.raises(DataError, match="a picture was changed"):
        data.published(f"images:{folder}", 0)


def test_a_cache_without_room_for_pictures_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"images need .* GB there") as error:
        data.published(f"images:{_flat(tmp_path)}", 0)
    assert "VAECTL_CACHE_DIR" in error.value.hint


def _png(width: int, height: int) -> bytes:
    """The beginning of a PNG of such a size, and no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def _tiff(mode: str) -> Callable[[Path], object]:
    return lambda path: Image.new(mode, (5, 6)).save(path, "TIFF")


BROKEN: dict[str, Callable[[Path], object]] = {
    **{name: make for name, make in ODD.items() if name != "a directory"},
    "text": lambda path: path.write_text("no picture"),
    "a file of another format": lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "a truncated picture": lambda path: path.write_bytes(
        path.with_name("000.png").read_bytes()[:70]
    ),
    "no pixels": lambda path: path.write_bytes(_png(5, 6)),
    "a large picture": lambda path: path.write_bytes(_png(10_000, 10_000)),
    "a bomb": lambda path: path.write_bytes(_png(2**31 - 1, 2**31 - 1)),
    "integers of 32 bits": _tiff("I"),
    "floats of 32 bits": _tiff("F"),
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
def test_broken_pictures_are_refused_by_name(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    """Every warning is an error here, so none escapes."""
    make(_flat(tmp_path) / "wrong.png")
    assert f"{tmp_path}/wrong.png: not a readable picture: " in _refused(tmp_path).message


def test_a_folder_below_the_home_directory_is_prepared(
    vaectl: Vaectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _flat(tmp_path / "pics")
    answer = vaectl("data", "prepare", "images:~/pics")
    assert answer.code == 0, answer.err
    assert "8 training and 1 test images" in answer.out
    assert "no classes" in answer.out


def test_a_data_set_is_described_and_drawn(vaectl: Vaectl, tmp_path: Path) -> None:
    pictures = {f"{kind}/{i}.png": _rgb(i, 6 + i % 2, 5) for kind in "ab" for i in range(9)}
    pictures["b/x.png"] = np.full((6, 5), 7, np.uint8)
    _save(tmp_path / "pics", pictures)
    command = ("data", "prepare", "pics", "--set", "data.size=[8, 6]")
    answer = vaectl(*command, "--out", "look.png")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"images:{tmp_path}/pics: 17 training and 2 test images of 6x8")
    assert "1 blank image" in lines[1]
    assert lines[2] == "2 classes: a (9), b (10)"
    assert lines[3] == "look.png"
    assert np.asarray(Image.open("look.png").convert("RGB")).std() > 10
    assert vaectl("data", "prepare", "pics").code == 3
    assert vaectl(*command, "--set", "data.shape=[8, 6]").code == 2
    assert vaectl("data", "prepare", "digits", "--out", "digits.svg", "-q").err == ""
    assert vaectl("data", "prepare", "digits", "--out", "digits.foo").code == 2


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "No such file"), ("file", "Not a directory")]
)
def test_what_is_no_folder_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/{name}: cannot be read: {reason}" in _refused(tmp_path / name).message


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    _flat(tmp_path)
    (tmp_path / "000.png").rename(tmp_path / os.fsdecode(b"\xff \n.png"))
    assert len(_all(_read(tmp_path))) == 9


@ANY
@given(suffix=st.sampled_from(sorted(SUFFIXES)), edits=EDITS)
def test_pictures_changed_anywhere_load_or_are_refused(
    suffix: str, edits: Edits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"pictures{suffix}"
    if not folder.exists():
        folder.mkdir()
        mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
        for number in range(4):
            Image.fromarray(_rgb(number, 9, 8)).convert(mode).save(folder / f"{number}{suffix}")
    changed = folder / f"3{suffix}"
    changed.write_bytes(_edited((folder / f"2{suffix}").read_bytes(), edits))
    _loads_or_is_refused(f"images:{folder}")


def _as_photographs(border: int, greys: int) -> Array:
    """Squares of random greys, with a frame."""
    levels = np.random.default_rng(0).integers(0, greys, (60, 12, 12)) * (255 // (greys - 1))
    return np.pad(levels.astype(np.uint8), ((0, 0), (4, 4), (4, 4)), constant_values=border)


@pytest.mark.parametrize(
    ("border", "greys", "drawings"),
    [(0, 2, True), (255, 2, False), (0, 256, False), (90, 256, False)],
    ids=["drawings", "negatives of drawings", "photographs of a night", "photographs"],
)
@pytest.mark.parametrize("binarization", ["threshold", "stochastic", "static", "none"])
def test_photographs_are_told_from_drawings_however_they_are_binarized(
    border: int, greys: int, drawings: bool, binarization: str, tmp_path: Path
) -> None:
    images = _as_photographs(border, greys)
    _save(tmp_path, {f"{i:02}.png": image for i, image in enumerate(images)})
    settings = Data.model_validate({"source": f"images:{tmp_path}", "binarization": binarization})
    assert data.load(settings).drawings == drawings
    assert data.load(Data()).drawings


def _shapes(width: int, height: int, greys: tuple[int, int]) -> Array:
    """Filled shapes in the middle of a black image of 28 x 28, as clothes are photographed."""
    rng = np.random.default_rng(0)
    images = np.zeros((60, 28, 28), np.uint8)
    for image in images:
        wide, high = width + rng.integers(-2, 3), height + rng.integers(-2, 3)
        left, top = (28 - wide) // 2, (28 - high) // 2
        cloth = np.linspace(*greys, wide) + rng.normal(0, 20, (high, wide))
        image[top : top + high, left : left + wide] = np.clip(cloth, 0, 255)
    return images


def _strokes() -> Array:
    """Lines with soft edges on black."""
    rng = np.random.default_rng(0)
    images = np.zeros((60, 28, 28), np.uint8)
    for image in images:
        x, y = rng.integers(5, 19, 2)
        image[4:24, x : x + 4] = [90, 255, 255, 90]
        image[y : y + 4, 4:24] = [[90], [255], [255], [90]]
    return images


GARMENTS = _shapes(18, 22, (60, 230))
LOOKS: dict[str, tuple[Array, bool]] = {
    "strokes": (_strokes(), True),
    "strokes, inverted": (255 - _strokes(), False),
    "strokes, binary": (255 * (_strokes() > 127), True),
    "garments": (GARMENTS, False),
    "bright garments": (_shapes(18, 22, (220, 255)), False),
    "garments, binary": (255 * (GARMENTS > 127), False),
    "sandals": (_shapes(22, 6, (60, 230)), False),
    "photographs": (np.random.default_rng(0).normal(120, 50, (60, 28, 28)).clip(0, 255), False),
}


@pytest.mark.parametrize("kind", LOOKS)
def test_ink_is_for_thin_bright_lines_on_black(kind: str) -> None:
    found, drawings = LOOKS[kind]
    assert are_drawings(found.astype(np.uint8)[..., None]) == drawings
    digits = np.asarray(data.load(Data()).train.images)
    assert are_drawings(digits)
    assert not are_drawings(255 - digits)


def test_pictures_of_photographs_are_no_negatives(vaectl: Vaectl, tmp_path: Path) -> None:
    """Binarized they have a black border, as drawings have."""
    images = _as_photographs(0, 256)
    _save(tmp_path / "night", {f"{i:02}.png": image for i, image in enumerate(images)})
    small = ("--epochs", 1, "--set", "model.hidden_size=4", "--code-size", 2, "--name", "night")
    source = ("--set", f"data.source=images:{tmp_path / 'night'}")
    assert vaectl("train", *small, *source, "--quiet").code == 0
    assert vaectl("reconstruct", "night", "--count", 4, "--out", "a.svg").code == 0
    assert "1 is white" in " ".join(Path("a.svg").read_text().split())


def test_the_class_says_what_it_reads() -> None:
    assert ImageFolder.form() == "images:DIR"
    assert "images:DIR" in {entry.source for entry in ImageFolder.entries()}
