"""Tables of pixels: what is read of each, and what is refused with its row and column."""

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from tests.test_bad_data import EDITS, ODD, Edits, _edited, _loads_or_is_refused
from tests.test_config import ANY
from vaectl import data
from vaectl.base import memory
from vaectl.base.errors import DataError
from vaectl.data.arrays import Images, Published, divide
from vaectl.data.reading import Reading
from vaectl.data.settings import Data

Array = np.ndarray[Any, Any]
COUNT = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 5, 5)).astype(np.uint8)
IMAGES[:, 0, :2] = 0, 255
LABELS = (np.arange(COUNT) % 3).astype(np.int32)
ROWS = IMAGES.reshape(COUNT, -1)
PIXELS = [f"pixel{i}" for i in range(25)]


def _lines(columns: list[Any], names: list[str] | None = None, delimiter: str = ",") -> str:
    """Text of columns, each an array of cells."""
    rows = [names] if names else []
    rows += [[str(cell) for cell in row] for row in zip(*columns, strict=True)]
    return "".join(delimiter.join(row) + "\n" for row in rows)


def _read(path: Path, **reading: Any) -> Published:
    return data.published(f"table:{path}", reading=Reading(**reading))


def _refused(path: Path, **reading: Any) -> DataError:
    with pytest.raises(DataError) as error:
        _read(path, **reading)
    assert error.value.exit_code == 3
    assert error.value.hint
    assert path.name in error.value.message
    return error.value


def _same(found: Published, labels: Array | None = LABELS, images: Array = IMAGES) -> None:
    assert found.fingerprint() == divide("x", Images(images, labels)).fingerprint()


CELLS = [*ROWS.T]
FORMS: dict[str, tuple[str, Array | None]] = {
    "Kaggle's": (_lines([LABELS, *CELLS], ["label", *PIXELS]), LABELS),
    "labels last": (_lines([*CELLS, LABELS], [*PIXELS, "Class"]), LABELS),
    "no names, labels first": (_lines([LABELS, *CELLS]), LABELS),
    "no names, labels last": (_lines([*CELLS, LABELS]), LABELS),
    "names that say nothing": (_lines([LABELS, *CELLS], [f"c{i}" for i in range(26)]), LABELS),
    "no labels": (_lines(CELLS), None),
    "no labels, but names": (_lines(CELLS, PIXELS), None),
    "names of pandas": (_lines(CELLS, [str(i) for i in range(25)]), None),
    "names and index of pandas": (
        _lines([range(COUNT), *CELLS, LABELS], ["", *map(str, range(25)), "y"]),
        LABELS,
    ),
    "index of pandas, in Parquet": (
        _lines([*CELLS, LABELS, range(COUNT)], [*PIXELS, "y", "__index_level_0__"]),
        LABELS,
    ),
    "semicolons": (_lines([LABELS, *CELLS], ["y", *PIXELS], ";"), LABELS),
    "tabs": (_lines([LABELS, *CELLS], ["y", *PIXELS], "\t"), LABELS),
    "quotes": (_lines([LABELS, *CELLS], [f'"{name}"' for name in ["target", *PIXELS]]), LABELS),
    "Windows": ("\ufeff" + _lines([LABELS, *CELLS], ["y", *PIXELS]).replace("\n", "\r\n"), LABELS),
    "blank lines first": ("\n\r\n" + _lines([LABELS, *CELLS], ["y", *PIXELS]), LABELS),
    "blank lines first, no names": ("\ufeff\n\n" + _lines([LABELS, *CELLS]), LABELS),
    "blank lines": (_lines([LABELS, *CELLS], ["y", *PIXELS]) + "\n\n", LABELS),
    "floats": (
        _lines([LABELS * 1.0, *(CELLS[i] / 255 for i in range(25))], ["y", *PIXELS]),
        LABELS,
    ),
    "text": (_lines([np.array(["a", "b c", "é"])[LABELS], *CELLS], ["class", *PIXELS]), LABELS),
}


@pytest.mark.parametrize(("text", "labels"), FORMS.values(), ids=FORMS)
def test_csv_files_are_read_as_they_are_written(
    text: str, labels: Array | None, tmp_path: Path
) -> None:
    (tmp_path / "my.csv").write_text(text)
    found = _read(tmp_path / "my.csv")
    _same(found, labels)
    assert any("no test split" in note for note in found.notes)
    (tmp_path / "my.tsv.gz").write_bytes(gzip.compress(text.encode()))
    assert _read(tmp_path / "my.tsv.gz").fingerprint() == found.fingerprint()


def test_the_configuration_may_say_which_column_holds_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    other = (LABELS + 1) % 3
    path.write_text(_lines([LABELS, *CELLS, other], ["label", *PIXELS, "y"]))
    error = _refused(path)
    assert "label and y may be its labels" in error.message
    assert "data.labels=label" in error.hint
    path.write_text(_lines([np.array(["a", "b", "c"])[LABELS], *CELLS]))
    assert "column 1, row 1" in _refused(path).message
    _same(_read(path, labels=("1",)))
    path.write_text(_lines([LABELS, *CELLS], ["kind", *PIXELS]))
    _same(_read(path, labels=("kind",)))
    assert "no column king; did you mean kind" in _refused(path, labels=("king",)).message
    assert _read(path, labels=(), shape=(2, 13)).train.labels is None


def test_columns_named_as_labels_are_never_pixels(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(_lines([LABELS, LABELS % 2, *CELLS], ["label", "class", *PIXELS]))
    found = _read(path, labels=("label",))
    _same(found)
    assert "not used: class" in found.notes
    _same(_read(path, labels=()), None)
    path.write_text(_lines([LABELS + 0.5, *CELLS], ["label", *PIXELS]))
    assert "data.labels=[]" in _refused(path).hint
    _same(_read(path, labels=()), None)
    path.write_text(_lines([LABELS + 0.5, *CELLS], ["kind", *PIXELS]))
    assert "data.labels=[]" not in _refused(path, labels=("kind",)).hint


UNTOLD: dict[str, tuple[Array, list[str] | None]] = {
    "one class": (0 * LABELS, None),
    "one class, a name that says nothing": (0 * LABELS + 7, ["species", *PIXELS]),
    "labels that all differ": (np.arange(COUNT), None),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("labels", "names"), UNTOLD.values(), ids=UNTOLD)
def test_columns_one_more_than_an_image_has_are_asked_about(
    labels: Array, names: list[str] | None, last: bool, tmp_path: Path
) -> None:
    path = tmp_path / "my.csv"
    columns = [*CELLS, labels] if last else [labels, *CELLS]
    if names and last:
        names = [*names[1:], names[0]]
    path.write_text(_lines(columns, names))
    error = _refused(path)
    assert "25 of its 26 columns can be an image" in error.message
    hints = dict(re.findall(r"data.labels=(\S+) (?:says that )?the column (\S+?)[ ;]", error.hint))
    assert len(hints) == 2
    asked = [*hints][-1 if last else 0]
    _same(_read(path, labels=(asked,)), labels.astype(np.int32))
    for reading in ({"labels": ()}, {"shape": (1, 26)}):
        assert _read(path, **reading).train.image_shape == (1, 26, 1)


def test_real_numbers_are_rows_of_numbers_however_many_they_are(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(_lines([LABELS + 0.5, *(cells / 255 for cells in CELLS)]))
    assert _read(tmp_path / "my.csv", range=(0, 3)).train.image_shape == (1, 26, 1)


def test_runs_find_what_an_older_version_read_of_all_columns(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(_lines([0 * LABELS, *CELLS]))
    rows = np.column_stack([0 * LABELS, ROWS]).astype(np.uint8)[:, np.newaxis]
    before = divide("x", Images(rows, None)).fingerprint()
    assert data.load(Data(source=f"table:{path}"), fingerprint=before).fingerprint == before


@pytest.mark.parametrize("setting", [{"size": (4, 4)}, {"channels": 3}])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_settings_for_pictures_are_refused_for_pixels(
    setting: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"my.{kind}"
    if kind == "csv":
        path.write_text(FORMS["Kaggle's"][0])
    else:
        _parquet(path, image=NESTED, label=LABELS)
    (key,) = setting
    assert f"data.{key} is for pictures" in _refused(path, **setting).message
    before = _read(path).fingerprint()  # a run of an older version finds its data
    asked = Data(source=f"table:{path}", **setting)
    assert data.load(asked, fingerprint=before).fingerprint == before


def test_labels_first_or_last_are_asked_for_where_both_may_be(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(_lines([CELLS[0] + 255 * (LABELS // 2), *CELLS[1:], LABELS]))
    assert "the first and the last of its 26 columns" in _refused(path).message
    found = _read(path, labels=("26",))
    labels = [*found.train.labels, *found.test.labels]  # type: ignore[misc]
    assert np.bincount(labels).tolist() == np.bincount(LABELS).tolist()


def _parquet(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


NESTED = pa.array(IMAGES.tolist(), pa.list_(pa.list_(pa.uint8())))
TABLES: dict[str, dict[str, Any]] = {
    "a column for each pixel": {"label": LABELS, **dict(zip(PIXELS, CELLS, strict=True))},
    "floats": {"y": LABELS * 1.0, **{n: c / 255 for n, c in zip(PIXELS, CELLS, strict=True)}},
    "lists": {"image": pa.array(ROWS.tolist(), pa.list_(pa.int64())), "label": LABELS},
    "lists of lists": {"image": NESTED, "label": LABELS},
    "lists of one length": {
        "index": np.arange(COUNT),
        "image": pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 25),
        "label": pa.array([f"class {label}" for label in LABELS]),
    },
    "text as bytes": {
        "label": pa.array([b"class %d" % label for label in LABELS]),
        **dict(zip(PIXELS, CELLS, strict=True)),
    },
}


@pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES)
def test_parquet_files_are_read_as_they_are_written(
    columns: dict[str, Any], tmp_path: Path
) -> None:
    _same(_read(_parquet(tmp_path / "my.parquet", **columns)))


def _png(pixels: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_pictures_in_the_cells_of_a_parquet_file_are_decoded(tmp_path: Path) -> None:
    """Hugging Face publishes data sets so."""
    cells = [{"bytes": _png(image), "path": f"{i}.png"} for i, image in enumerate(IMAGES)]
    path = _parquet(tmp_path / "my.parquet", image=cells, label=LABELS)
    _same(_read(path))
    grown = _read(path, size=(7, 9), channels=3)
    assert grown.train.image_shape == (7, 9, 3)
    plain = _parquet(tmp_path / "my.parquet", image=[cell["bytes"] for cell in cells])
    _same(_read(plain), None)
    more = _parquet(tmp_path / "my.parquet", image=cells, label=LABELS, other=LABELS, text=cells)
    assert "not used: other, text" in _read(more, images=("image",)).notes
    cells[6]["bytes"] = _png(IMAGES[0, :3])
    path = _parquet(tmp_path / "my.parquet", image=cells, label=LABELS)
    error = _refused(path)
    assert "row 7: a picture of 5x3 pixels" in error.message
    assert "data.size" in error.hint
    cells[6]["bytes"] = b"no picture"
    path = _parquet(tmp_path / "my.parquet", image=cells, label=LABELS)
    message = _refused(path).message
    assert "row 7: not a readable picture: it has none of the formats BMP, " in message
    assert "0x" not in message


def test_pictures_of_12_bits_in_cells_keep_their_levels(tmp_path: Path) -> None:
    levels = IMAGES.astype(np.uint16) * 16
    path = _parquet(tmp_path / "my.parquet", image=[_png(image) for image in levels])
    assert "data.range=[0, 4080]" in _refused(path).hint
    _same(_read(path, range=(0, 4080)), None)


def test_two_columns_of_images_are_asked_about(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "my.parquet", image=NESTED, mask=NESTED, label=LABELS)
    assert "data.images=image" in _refused(path).hint
    _same(_read(path, images=("mask",)))


def _changed(place: int, row: int, cell: str) -> str:
    columns = [np.array(column, dtype=object) for column in [LABELS, *CELLS]]
    columns[place][row] = cell
    return _lines(columns, ["label", *PIXELS])


def _spaced(text: str) -> str:
    """Put a blank line before each row."""
    return "\n" + text.replace("\n", "\n\n")


BAD: dict[str, tuple[str, str]] = {
    "no number": (_changed(3, 6, "x"), "column pixel2, row 8: .*'x'"),
    "no cell": (_changed(25, 0, ""), "column pixel24, row 2: no value"),
    "NaN": (_changed(1, 9, "nan"), "column pixel0, row 11: nan is not a pixel value"),
    "infinity": (_changed(1, 9, "inf"), "column pixel0, row 11: inf is not a pixel value"),
    "no label": (_changed(0, 9, ""), "column label, row 11: no value"),
    "no number after blank lines": (_spaced(_changed(3, 6, "x")), "column pixel2, row 16: .*'x'"),
    "no cell after blank lines": (_spaced(_changed(25, 0, "")), "column pixel24, row 4: no value"),
    "NaN after blank lines": (_spaced(_changed(1, 9, "nan")), "row 22: nan is not a pixel value"),
    "a row too short": (_changed(0, 39, "0") + "1,2\n", "row 42: Expected 26 columns, got 2"),
    "a half": (_changed(0, 5, "0.5"), "0.5 at place 5 is not the number of a class"),
    "nothing": ("", "Empty|no column of pixels"),
    "names alone": (_lines([[]] * 2, ["label", "pixel0"]), "no rows|Empty"),
    "no table": ("\x00\x01\x02" * 99, ""),
    "one cell": ("7\n", ""),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_what_is_no_image_is_refused_with_its_row_and_column(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.csv"
    path.write_text(text)
    assert re.search(words, _refused(path).message)


def test_images_of_two_sizes_in_a_parquet_file_are_refused(tmp_path: Path) -> None:
    rows: list[Any] = ROWS.tolist()
    rows[7] = rows[7][:9]
    path = _parquet(tmp_path / "my.parquet", image=rows, label=LABELS)
    assert "row 8" in _refused(path).message
    rows[7] = [*ROWS[7].tolist()[:-1], None]
    path = _parquet(tmp_path / "my.parquet", image=rows, label=LABELS)
    assert "row 8: a number of its image is missing" in _refused(path).message
    rows[7] = None
    path = _parquet(tmp_path / "my.parquet", image=rows, label=LABELS)
    assert "column image, row 8: no value" in _refused(path).message
    none = pa.array([[None]] * 8, pa.list_(pa.list_(pa.int64())))
    path = _parquet(tmp_path / "my.parquet", image=none)
    assert "row 1: a number of its image is missing" in _refused(path).message


def test_labels_in_lists_are_refused(tmp_path: Path) -> None:
    pixels = dict(zip(PIXELS, CELLS, strict=True))
    path = _parquet(tmp_path / "my.parquet", label=np.eye(3)[LABELS].tolist(), **pixels)
    assert "its labels are of type list<" in _refused(path).message


def test_a_table_larger_than_memory_is_refused_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my.csv.gz"
    path.write_bytes(gzip.compress(b"0,255,7,9\n" * 4_000_000, 1))
    monkeypatch.setattr(memory, "total", lambda: 10**6)
    before = memory.peak()
    assert "of pixels so far" in _refused(path).message
    assert memory.peak() - before < 3 * 10**8


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_is_no_file_is_refused(
    make: Callable[[Path], object], suffix: str, tmp_path: Path
) -> None:
    make(tmp_path / f"x.{suffix}")
    _refused(tmp_path / f"x.{suffix}")


@ANY
@given(edits=EDITS, kind=st.sampled_from(["csv", "csv.gz", "parquet"]))
def test_tables_changed_anywhere_load_or_are_refused(
    edits: Edits, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"changed.{kind}"
    content = FORMS["Kaggle's"][0].encode()
    if kind == "parquet":
        content = _parquet(path, **TABLES["lists"]).read_bytes()
    content = gzip.compress(content) if kind == "csv.gz" else content
    path.write_bytes(_edited(content, edits))
    _loads_or_is_refused(f"table:{path}")
