"""`table:FILE`: a table with one image in each row, as CSV, plain or gzipped, or Parquet."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from vaectl.base.errors import DataError, first_line
from vaectl.base.files import regular
from vaectl.base.nearest import did_you_mean, did_you_mean_path
from vaectl.base.plural import listed
from vaectl.data.reading import Reading
from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from vaectl.data.arrays import Published
    from vaectl.data.pictures import Decoder

    Block = np.ndarray[Any, Any]

_CSV, _PARQUET = (".csv", ".csv.gz", ".tsv", ".tsv.gz"), (".parquet", ".pq")
_LABELS = {"label", "labels", "class", "y", "target", "targets", "digit", "category"}
"""Names of columns of labels, in small letters."""
_NUMBERS = {"", "unnamed: 0", "__index_level_0__", "id", "index", "idx", "image_id", "imageid"}
"""Names of columns that number the rows, in small letters."""
_DELIMITERS = ",;\t"
_BLOCK = 16 * 2**20
"""Bytes of a table that are read at once; no row of CSV may be longer."""
_FOR_PICTURES = ("size", "resize", "channels")
"""The settings that only apply to pictures, not to columns of pixels."""
_LAYOUT = "the table should have one image in each row, and its label in a column, or none"
_BLANK = re.compile(rb"[\r\n]*")
"""A line of CSV that is no row."""
_FILL = "fill in the cell, or leave out the row"
_AT = re.compile(
    r"(?:In CSV column #(?P<column>\d+): )?(?:.*?Row #(?P<row>\d+): )?(?P<rest>.*)", re.S
)


class _Plan(NamedTuple):
    """The columns of a table, by their places."""

    names: list[str]
    pixels: list[int]
    label: int | None
    """The place of the labels; None without labels, or if they are found after all rows are
    read."""
    skipped: list[str]
    open_: bool
    """True if a column of `pixels` may hold the labels."""

    @property
    def places(self) -> list[int]:
        """The places of all that is read; that of the labels comes last."""
        return [*self.pixels, *([] if self.label is None else [self.label])]


class Table(LocalSource, name="table"):
    """Rows of pixels, or of pictures in the formats of files, and a column of labels or none.

    The first row of a CSV file contains the names of the columns in three cases: none of its cells
    is a number; some are not numbers and all differ; or they count from 0 or 1. Columns with names
    of labels or of row numbers are never pixels. Without such names, the first or the last column
    holds the labels if only the other columns can be a square image. A table has no splits: one
    seventh of its rows are the test split.
    """

    placeholder = "FILE"
    what = "CSV, .csv.gz or Parquet, one image in each row; a column label or class"
    heeds = LocalSource.heeds | {"images", "labels", "shape", "size", "resize", "channels"}
    first_reading = Reading(labels=())
    suffixes = _CSV + _PARQUET

    @property
    def earlier(self) -> Reading | None:
        """The settings that give what older versions read: they ignored settings for pictures."""
        ignored = {key: Reading.model_fields[key].default for key in _FOR_PICTURES}
        plain = self.reading.model_copy(update=ignored)
        return super().earlier if plain == self.reading else plain

    @property
    def title(self) -> str:
        """The name of the file without its endings."""
        return re.sub(r"(\.(csv|tsv|parquet|pq|gz))+$", "", self.path.name, flags=re.I)

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Read the table block by block; only its pixels and its labels are kept."""
        import numpy as np

        from vaectl.data import labels, layout
        from vaectl.data.arrays import Images, divide
        from vaectl.data.pictures import first_frames, with_levels

        def read(decoder: Decoder) -> tuple[_Plan, Block, Block | None, int]:
            with ExitStack() as stack:
                if self.path.name.lower().endswith(_PARQUET):
                    plan, blocks = self._parquet(stack, decoder)
                else:
                    plan, blocks = self._csv(stack)
                found = _collected(self.path, blocks)
                decoder.finish()
                return plan, *found, decoder.frames

        plan, pixels, column, frames = with_levels(self.reading, read)
        notes = first_frames(frames)
        if plan.skipped:
            notes.append(f"not used: {listed(plan.skipped)}")
        names = [plan.names[place] for place in plan.pixels]
        if plan.open_ and (place := self._place_of_labels(pixels, names)) is not None:
            notes.append(f"column {names[place]} holds the labels, by its values")
            column = np.ascontiguousarray(pixels[:, place])
            pixels = np.delete(pixels, place, axis=1)
        images, note = layout.images(str(self.path), pixels, self.reading.shape)
        of = None
        if column is not None:
            of = labels.Column(f"{self.path}: its labels", column, "the table", len(images))
            if plan.label is None or plan.names[plan.label].lower() not in _LABELS:
                hint = "correct the labels, or take their column out of the table"
                of = of._replace(hint=hint)
        (numbers,), classes, more = labels.read([of])
        notes = [*([note] if note else []), *notes, *more]
        return divide(str(self), Images(images, numbers), tuple(notes), classes)

    def _csv(self, stack: ExitStack) -> tuple[_Plan, Iterator[tuple[Block, Any]]]:
        """Open a CSV file; the first row tells what its columns are."""
        from pyarrow import csv as arrow

        path = self.path
        with _refusing(path), _opened(path) as file:
            head = file.read(_BLOCK).removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
            blank = len(head) - len(head.lstrip(b"\n"))
            line = head[blank:].split(b"\n", 1)[0]
            text = line.decode("utf-8", "replace").strip("\r")
            delimiter = max(_DELIMITERS, key=text.count)
            first = next(csv.reader([text], delimiter=delimiter), [])
        named = _are_names(first)
        names = [name.strip() if named else f"{i + 1}" for i, name in enumerate(first)]
        self._check_pixels()
        plan = self._plan(names)
        keys = [f"{place}" for place in plan.places]
        kinds = dict.fromkeys(keys, _arrow().float32())
        if plan.label is not None:
            kinds[keys[-1]] = _arrow().string()
        with _refusing(path, names):
            opened = stack.enter_context(_opened(path))
            reader = arrow.open_csv(
                _arrow().PythonFile(opened, mode="r"),
                # only with one thread does pyarrow know the row of an error
                arrow.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK,
                    column_names=[f"{place}" for place in range(len(names))],
                    skip_rows=blank + named,
                ),
                arrow.ParseOptions(delimiter=delimiter),
                arrow.ConvertOptions(
                    column_types=kinds,
                    include_columns=keys,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        return plan, _blocks(path, reader, keys, plan, 1 + blank + named)

    def _parquet(
        self, stack: ExitStack, decoder: Decoder
    ) -> tuple[_Plan, Iterator[tuple[Block, Any]]]:
        """Open a Parquet file, whose schema tells what its columns are."""
        from pyarrow import parquet

        path = self.path
        with _refusing(path):
            file = stack.enter_context(regular(path))
            table = parquet.ParquetFile(_arrow().PythonFile(file, mode="r"))
            kinds, names = table.schema_arrow.types, table.schema_arrow.names
        whole = [i for i, kind in enumerate(kinds) if _is_list(kind) or _is_picture(kind)]
        plan = self._plan(names, whole)
        is_whole = plan.pixels[0] in whole
        if not _is_picture(kinds[plan.pixels[0]]):
            self._check_pixels()
        for place in plan.pixels:
            if not (is_whole or _is_numeric(kinds[place])):
                raise DataError(
                    f"{path}: its column {names[place]} is of type {kinds[place]}, not of numbers",
                    hint="leave the column out, or data.labels=NAME if it holds the labels",
                )
        rows = max(_BLOCK // (8 * max(len(plan.pixels), 1000 * is_whole)), 1)
        keys = [names[place] for place in plan.places]
        batches = table.iter_batches(rows, columns=keys)
        return plan, _blocks(path, batches, keys, plan, 1, decoder)

    def _check_pixels(self) -> None:
        """Refuse settings for pictures."""
        for key in _FOR_PICTURES:
            if getattr(self.reading, key) != Reading.model_fields[key].default:
                raise DataError(
                    f"{self.path}: data.{key} is for pictures, and its images are numbers",
                    hint=f"leave out data.{key}; data.shape says the shape of each image",
                )

    def _plan(self, names: list[str], whole: Sequence[int] = ()) -> _Plan:
        """Tell pixels, labels and other columns from each other, by their names.

        Args:
            names: of all columns; those of a table without names are numbers.
            whole: the places of columns that hold whole images.
        """
        label = self._label(names)
        no_pixels = {
            place
            for place, name in enumerate(names)
            if place == label or name.lower() in _NUMBERS | _LABELS
        }
        asked = self.reading.images
        whole = [place for place in whole if asked or place not in no_pixels]
        kept = [*whole] or [place for place in range(len(names)) if place not in no_pixels]
        if asked:
            kept = [place for place in whole if (names[place],) == asked]
            if not kept:
                what = f"no column {' and '.join(asked)} of" if whole else "has no column of"
                raise DataError(
                    f"{self.path}: {what} whole images",
                    hint=f"its columns: {listed([names[place] for place in whole] or names)}",
                )
        if whole and len(kept) > 1:
            raise DataError(
                f"{self.path}: {' and '.join(names[place] for place in kept)} may hold its images",
                hint=f"data.images=NAME says which, for example data.images={names[kept[0]]}",
            )
        if not kept:
            raise DataError(f"{self.path}: no column of pixels", hint=_LAYOUT)
        skipped = [
            name or f"column {place + 1}, without a name"
            for place, name in enumerate(names)
            if place not in {*kept, label}
        ]
        unsaid = label is None and self.reading.labels is None and not whole
        return _Plan(names, kept, label, skipped, unsaid)

    def _label(self, names: list[str]) -> int | None:
        asked = self.reading.labels
        if asked is None:
            images = self.reading.images or ()
            found = [
                i for i, name in enumerate(names) if name.lower() in _LABELS and name not in images
            ]
            if len(found) > 1:
                raise DataError(
                    f"{self.path}: {' and '.join(names[i] for i in found)} may be its labels",
                    hint=f"data.labels=NAME says which, for example data.labels={names[found[0]]}",
                )
            return found[0] if found else None
        if len(asked) > 1 or (asked and asked[0] not in names):
            raise DataError(
                f"{self.path}: no column {' and '.join(asked)}{did_you_mean(asked[0], names)}",
                hint=f"its columns: {listed(names)}",
            )
        return names.index(asked[0]) if asked else None

    def _place_of_labels(self, pixels: Block, names: Sequence[str]) -> int | None:
        """Return the place of the column that holds labels; None if all hold pixels."""
        import math

        from vaectl.data import layout

        count = pixels.shape[1]
        shape = self.reading.shape
        wanted = math.prod(shape) == count - 1 if shape else layout.is_picture(count - 1)
        if not wanted or (shape is None and layout.is_picture(count)):
            return None
        whole = [place for place in (0, count - 1) if (pixels[:, place] % 1 == 0).all()]
        ends = [place for place in whole if _may_be_labels(pixels[:, place])]
        if len(ends) == 1 or not whole:
            return ends[0] if ends else None
        first, last = names[0], names[-1]
        none = "" if shape else "; data.labels=[] that there are none, and all are pixels"
        said = (
            f"the first and the last of its {count} columns may be the labels"
            if ends
            else f"{count - 1} of its {count} columns can be an image, and which one holds labels "
            "cannot be told by its values"
        )
        raise DataError(
            f"{self.path}: {said}",
            hint=f"data.labels={first} says that the column {first} holds them, data.labels={last} "
            f"the column {last}{none}; or name the columns in the first row",
        )


def _may_be_labels(column: Block) -> bool:
    """Tell whether whole numbers can be classes: there are several, each more than once."""
    import numpy as np

    return bool(1 < len(np.unique(column)) <= len(column) / 2)


def _blocks(
    path: Path,
    batches: Any,
    keys: Sequence[str],
    plan: _Plan,
    row: int,
    decoder: Decoder | None = None,
) -> Iterator[tuple[Block, Any]]:
    """Yield the pixels of some rows at a time, and their labels.

    Args:
        path: the file.
        batches: of rows.
        keys: the names of the columns in a batch, those of `plan.places`.
        plan: the columns.
        row: the number of the first row.
        decoder: decodes pictures, where cells may be such.
    """
    names = [f"column {plan.names[place]}" for place in plan.places]
    batches = iter(batches)
    while True:
        with _refusing(path, plan.names):
            if (batch := next(batches, None)) is None:
                return
            columns = [batch.column(key) for key in keys]
            for name, column in zip(names, columns, strict=True):
                if column.null_count:
                    at = row + int(column.is_null().to_numpy(zero_copy_only=False).argmax())
                    raise DataError(f"{path}: {name}, row {_line(path, at)}: no value", hint=_FILL)
            if decoder and _is_picture(columns[0].type):
                pixels = _pictures(path, columns[0], row, decoder)
            else:
                pixels = _pixels(path, columns[: len(plan.pixels)], names, row)
            labels = None if plan.label is None else _labels(path, columns[-1])
        row += len(pixels)
        yield pixels, labels


def _pixels(path: Path, columns: Sequence[Any], names: Sequence[str], row: int) -> Block:
    """Return the pixels of some rows: as bytes where they are such, else as float32."""
    import numpy as np

    if _is_list(columns[0].type):
        values = _unpacked(path, columns[0], row)
    else:
        values = np.empty((len(columns[0]), len(columns)), np.float32)
        for place, column in enumerate(columns):
            values[:, place] = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f" and len(wrong := np.argwhere(~np.isfinite(values))):
        at, place, *_ = wrong[0].tolist()
        where = f"{names[place if len(columns) > 1 else 0]}, row {_line(path, row + at)}"
        raise DataError(
            f"{path}: {where}: {values[tuple(wrong[0])]} is not a pixel value", hint=_FILL
        )
    with np.errstate(invalid="ignore"):
        small = values.astype(np.uint8)
    return small if (small == values).all() else values.astype(np.float32, copy=False)


def _pictures(path: Path, column: Any, row: int, decoder: Decoder) -> Block:
    """Decode cells that hold pictures as files do: bytes, or a field `bytes` beside a name."""
    import io

    from vaectl.data.pictures import stacked

    cells = column.field("bytes") if _arrow().types.is_struct(column.type) else column
    pictures: list[Block] = []
    for at, cell in enumerate(cells.to_pylist(), row):
        try:
            picture = decoder.decoded(io.BytesIO(cell or b""))
        except Exception as error:  # of many decoders: whatever they meet
            raise DataError(
                f"{path}: row {at}: not a readable picture: {first_line(error)}",
                hint="leave out the row",
            ) from None
        if pictures and picture.shape[:2] != pictures[0].shape[:2]:
            raise DataError(
                f"{path}: row {at}: a picture of {picture.shape[1]}x{picture.shape[0]} pixels, "
                f"after those of {pictures[0].shape[1]}x{pictures[0].shape[0]}",
                hint="data.size=32, or another number of pixels, resizes all",
            )
        pictures.append(picture)
    return stacked(pictures)


def _unpacked(path: Path, column: Any, before: int) -> Block:
    """Return the numbers of cells that are lists of numbers, or lists of such lists."""
    import numpy as np
    from pyarrow import compute

    shape = [len(column)]
    while _is_list(column.type):
        lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
        if len(set(lengths.tolist())) > 1:
            place = int(np.argmax(lengths != lengths[0]))
            row = before + place * shape[0] // max(len(column), 1)
            raise DataError(
                f"{path}: row {row}: its image has another size than those before",
                hint="bring all images to one size",
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        column = column.flatten()
        if column.null_count:
            place = int(column.is_null().to_numpy(zero_copy_only=False).argmax())
            row = before + place * shape[0] // len(column)
            raise DataError(f"{path}: row {row}: a number of its image is missing", hint=_FILL)
    if not _is_numeric(column.type):
        raise DataError(
            f"{path}: its images are lists of {column.type}, not of numbers", hint=_LAYOUT
        )
    numbers: Block = column.to_numpy(zero_copy_only=False).reshape(shape)
    return numbers


def _labels(path: Path, column: Any) -> Block:
    import numpy as np

    types = _arrow().types
    if types.is_nested(column.type):
        raise DataError(
            f"{path}: its labels are of type {column.type}, neither numbers nor text",
            hint="data.labels=NAME says which column holds labels; data.labels=[]: none",
        )
    if _is_picture(column.type):  # text whose writer did not say so
        column = column.cast(_arrow().string())
    found = column.to_numpy(zero_copy_only=False)
    return found.astype(str) if found.dtype == object else np.asarray(found)


def _collected(path: Path, blocks: Iterator[tuple[Block, Any]]) -> tuple[Block, Block | None]:
    """Join blocks, as bytes if all are such."""
    import numpy as np

    from vaectl.base import memory
    from vaectl.data.arrays import COPIES
    from vaectl.data.pictures import rgb

    pixels: list[Block] = []
    labels: list[Block | None] = []
    size = 0
    for some, column in blocks:
        size += some.nbytes
        if too_much := memory.excess(COPIES * size):
            raise DataError(
                f"{path}: {size / 10**9:,.1f} GB of pixels so far, and that {too_much}",
                hint="save the images as x_train.npy in a folder, which need not fit into memory",
            )
        if pixels and some.shape[1:3] != pixels[0].shape[1:3]:
            raise DataError(f"{path}: images of two sizes", hint="bring all images to one size")
        pixels.append(some)
        labels.append(column)
    if not size:
        raise DataError(f"{path}: no rows in it", hint=_LAYOUT)
    if len({some.ndim for some in pixels}) > 1:  # grey pictures before or after coloured ones
        pixels = [np.stack([*map(rgb, images)]) for images in pixels]
    known = [each for each in labels if each is not None]
    return np.concatenate(pixels), np.concatenate(known) if known else None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with regular(path) as file:
        yield gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file


def _line(path: Path, row: int) -> int:
    """Return the line of a row of a CSV file, else the row itself.

    Rows are counted as pyarrow does, from 1, with lines that it skips before the first one; other
    blank lines are no rows.
    """
    if path.name.lower().endswith(_PARQUET):
        return row
    left, begun = row, False
    # what follows the row may be damaged
    with suppress(OSError, EOFError, zlib.error), _opened(path) as file:
        for line, text in enumerate(file, 1):
            blank = _BLANK.fullmatch(text) is not None
            begun = begun or not blank
            left -= not (begun and blank)
            if left == 0:
                return line
    return row


@contextmanager
def _refusing(path: Path, names: Sequence[str] = ()) -> Iterator[None]:
    """Turn errors of pyarrow and gzip into an error that names the row and the column."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError.of(error, path, near=did_you_mean_path(path), hint=_LAYOUT) from None
    except OSError as error:
        raise DataError.of(error, path) from None
    except Exception as error:  # of several decoders: whatever they meet
        found = _AT.fullmatch(first_line(error))
        at = {} if found is None else found.groupdict()
        place = int(at.get("column") or len(names))
        where = [f"column {name}" for name in names[place : place + 1]]
        where += [f"row {_line(path, int(row))}" for row in [at.get("row")] if row]
        told = ", ".join(where) + ": " * bool(where) + (at.get("rest") or first_line(error))
        raise DataError(
            f"{path}: {told}",
            hint="correct the cell; data.labels=NAME says which column holds labels"
            if where
            else _LAYOUT,
        ) from None


def _are_names(cells: Sequence[str]) -> bool:
    """Tell the names of columns from the cells of an image."""
    from vaectl.data.labels import is_number

    numbers = [not cell.strip() or is_number(cell) for cell in cells]
    if not any(numbers):
        return True
    if not all(numbers):
        return len({*cells}) == len(cells)  # label, 0, 1, 2, ... but not cat, 0, 0, 0, ...
    numbered = [cell for cell in cells if cell]
    return len(cells) > 3 and any(
        numbered == [f"{first + i}" for i in range(len(numbered))] for first in (0, 1)
    )


def _is_list(kind: Any) -> bool:
    types = _arrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_picture(kind: Any) -> bool:
    types = _arrow().types
    if types.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        return "bytes" in names and _is_picture(kind.field(names.index("bytes")).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_numeric(kind: Any) -> bool:
    types = _arrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _arrow() -> Any:
    import pyarrow

    return pyarrow
