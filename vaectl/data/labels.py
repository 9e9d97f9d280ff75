"""Conversion of labels, in the forms in which people save them, to one number per image.

They are integers, booleans, floats that are whole, text, or one-hot rows. Text labels are numbered
in the order of their names, over all splits together; text that contains numbers stands for these
numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from vaectl.base.errors import DataError
from vaectl.base.plural import listed
from vaectl.data.stored import Array, Pixels

_MOST_NAMES = 10
"""The most classes that a note names."""
_LIMITS = np.iinfo(np.int32)
_CORRECT = "correct the labels, or leave them out: data.labels=[]"


class Column(NamedTuple):
    """The labels of a split, as they are published."""

    name: str
    """The name of the array, for messages."""
    values: Pixels
    images: str
    """The name of the array with their images."""
    size: int
    """The number of these images."""
    hint: str = _CORRECT
    """The hint of the error if the column does not contain labels."""


class Labels(NamedTuple):
    """The labels of all splits."""

    numbers: list[Int32[np.ndarray, " images"] | None]
    """The class of each image, by split."""
    classes: tuple[str, ...] = ()
    """The names of the classes, by number; none if they are numbers."""
    notes: tuple[str, ...] = ()


def read(columns: Sequence[Column | None]) -> Labels:
    """Read the labels of each split; None is for a split without labels.

    Raises:
        DataError: there is not one label for each image, or the labels are of an unknown kind.
    """
    found = [None if column is None else _one_each(column) for column in columns]
    notes: tuple[str, ...] = ()
    if any(_is_one_hot(column) for column in columns):
        notes = ("labels are one-hot: the class is the place of the 1",)
    texts = [labels for labels in found if labels is not None and labels.dtype.kind == "U"]
    if texts and len(texts) < sum(labels is not None for labels in found):
        both = ", ".join(column.name for column in columns if column is not None)
        raise DataError(f"{both}: text in one split, and numbers in another", hint=_CORRECT)
    classes: list[str] = np.unique(np.concatenate(texts)).tolist() if texts else []
    if all(map(is_number, classes)):
        return Labels(_numbers(columns, found), (), notes)
    numbers = [
        None if labels is None else np.searchsorted(classes, labels).astype(np.int32)
        for labels in found
    ]
    return Labels(numbers, tuple(classes), (*notes, f"classes by name: {told(classes)}"))


def told(classes: Sequence[str]) -> str:
    """Say how many classes there are, and name some of them."""
    return f"{len(classes)} ({listed(classes, _MOST_NAMES)})"


def name_of(number: int, classes: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has none."""
    return classes[number] if 0 <= number < len(classes) else str(number)


def _one_each(column: Column) -> Array:
    """Return one label for each image: integers, floats or text."""
    values = column.values
    if len(values.shape) not in (1, 2) or values.shape[0] != column.size:
        raise _wrong(column)
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 2:
        if not _is_one_hot(column):
            raise _wrong(column)
        array = np.argmax(array, axis=1)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in "biufU":
        raise _wrong(column)
    return array


def _is_one_hot(column: Column | None) -> bool:
    if column is None or len(column.values.shape) != 2 or column.values.shape[1] < 2:
        return False
    array = np.asarray(column.values)
    if array.dtype.kind not in "biuf":
        return False
    ones: Bool[np.ndarray, "images classes"] = array == 1
    return bool((ones.sum(axis=1) == 1).all() and (ones | (array == 0)).all())


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(
    columns: Sequence[Column | None], found: Sequence[Array | None]
) -> list[Int32[np.ndarray, " images"] | None]:
    numbers: list[Int32[np.ndarray, " images"] | None] = []
    for column, labels in zip(columns, found, strict=True):
        if column is None or labels is None:
            numbers.append(None)
            continue
        exact = labels.astype(np.float64)  # holds every number that can be a class
        whole = (np.rint(exact) == exact) & (exact >= _LIMITS.min) & (exact <= _LIMITS.max)
        if not whole.all():
            place = int(np.argmin(whole))
            raise DataError(
                f"{column.name}: {labels[place]} at place {place} is not the number of a class",
                hint=column.hint,
            )
        numbers.append(exact.astype(np.int32))
    return numbers


def _wrong(column: Column) -> DataError:
    return DataError(
        f"{column.name} must hold one label for each of the {column.size} images of "
        f"{column.images}; it is of type {column.values.dtype} and shape {column.values.shape}",
        hint=column.hint,
    )
