"""Named arrays of an archive or a folder: find images and labels, and their splits.

Names are understood as people write them: x_train, train_images, X_test, test_labels, images, y,
arr_0, and so on, in small or capital letters. The configuration may name arrays instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vaectl.base.errors import DataError
from vaectl.base.nearest import did_you_mean
from vaectl.base.plural import listed
from vaectl.data import labels as labelling
from vaectl.data import layout
from vaectl.data.arrays import Images, Published, divide
from vaectl.data.reading import Reading
from vaectl.data.stored import Pixels, joined

_IMAGES = "x|xs|images?|imgs?|pictures?|pixels?|data|features?|inputs?|arr_0"
_LABELS = "y|ys|labels?|targets?|class(?:es)?|digits?|arr_1"
_SPLITS = {
    "train": "train(?:ing)?|tr",
    "test": "test(?:ing)?|te",
    "validation": "val(?:id(?:ation)?)?",
}
_SPLIT = "|".join(f"(?P<{name}{{0}}>{pattern})" for name, pattern in _SPLITS.items())
_NAME = re.compile(
    f"(?:(?:{_SPLIT.format('')})_?)?(?:(?P<images>{_IMAGES})|(?P<labels>{_LABELS}))"
    f"(?:_?(?:{_SPLIT.format('2')}))?|(?:{_SPLIT.format('3')})"
)


class Meaning(NamedTuple):
    """The meaning of a name."""

    what: str
    """images or labels."""
    split: str
    """train, test or validation; empty for all images."""


def meaning(name: str) -> Meaning | None:
    """Return what a name means; None if it is not a name of images or labels."""
    found = _NAME.fullmatch(re.sub(r"[-. ]", "_", name).lower())
    if found is None:
        return None
    groups = found.groupdict()
    splits = {split for split in _SPLITS for end in ("", "2", "3") if groups[split + end]}
    if len(splits) > 1:
        return None
    return Meaning("labels" if groups["labels"] else "images", "".join(splits))


@dataclass(frozen=True)
class Arrays:
    """Arrays with names."""

    place: str
    """The file or folder, for messages."""
    names: Sequence[str]
    read: Callable[[str], Pixels]
    """Reads or opens an array."""
    where: Callable[[str], str]
    """Writes the name of an array for messages."""

    def published(self, reading: Reading) -> Published:
        """Return the images, their labels and their splits.

        Raises:
            DataError: no array fits, or several may be meant.
        """
        images = self._images(reading)
        columns = self._labels(reading, images)
        laid = {
            split: layout.images(self.where(name), self.read(name), reading.shape)
            for split, name in images.items()
        }
        found = labelling.read(
            [
                None
                if (name := columns.get(split)) is None
                else labelling.Column(
                    *(self.where(name), self.read(name), images[split], len(laid[split].images))
                )
                for split in images
            ]
        )
        parts = {
            split: Images(each.images, numbers)
            for (split, each), numbers in zip(laid.items(), found.numbers, strict=True)
        }
        notes = dict.fromkeys(each.note for each in laid.values() if each.note)
        unused = [name for name in self.names if name not in {*images.values(), *columns.values()}]
        more = [f"not used: {listed(sorted(unused))}"] if unused else []
        return assembled(self.place, parts, (*notes, *found.notes, *more), found.classes)

    def _images(self, reading: Reading) -> dict[str, str]:
        """Return the images' names by split; images without a split are divided later."""
        if reading.images:
            splits = ("train", "test") if len(reading.images) > 1 else ("train",)
            return dict(zip(splits, self._asked("images", reading.images), strict=True))
        known = self._known("images")
        if len(self.names) == 1 and meaning(self.names[0]) is None:
            return {"train": self.names[0]}
        whole = known.pop("", [])
        known = {"train": whole, **known} if whole and "train" not in known else known
        found = {split: self._one("images", split, names) for split, names in known.items()}
        if "train" not in found:
            what = "training images" if found else "images"
            raise DataError(
                f"{self.place}: no array has a name that means {what}; there are "
                f"{listed(sorted(self.names))}",
                hint="data.images=NAME names them; data.images=[TRAIN, TEST] those of two splits",
            )
        return found

    def _labels(self, reading: Reading, images: Mapping[str, str]) -> dict[str, str]:
        """Name the labels of each split that has some."""
        if reading.labels is not None:
            if reading.labels and len(reading.labels) != len(images):
                raise DataError(
                    f"{self.place}: data.labels names {len(reading.labels)}, and there are images "
                    f"of {len(images)}: {', '.join(images.values())}",
                    hint="data.images=[TRAIN, TEST] and data.labels=[TRAIN, TEST] name two splits",
                )
            asked = self._asked("labels", reading.labels)
            return dict(zip(images, asked, strict=bool(asked)))
        known, found = self._known("labels"), {}
        for split, name in images.items():
            own = meaning(name)
            names = known.get(own.split if own else "") or known.get(split if own else "", [])
            if names:
                found[split] = self._one("labels", split, names)
        return found

    def _known(self, what: str) -> dict[str, list[str]]:
        """Return the arrays that are known by their names, by split."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            if (meant := meaning(name)) and meant.what == what:
                found.setdefault(meant.split, []).append(name)
        return found

    def _asked(self, key: str, names: Sequence[str]) -> Sequence[str]:
        for name in names:
            if name not in self.names:
                raise DataError(
                    f"{self.place}: no array {name}{did_you_mean(name, self.names)}",
                    hint=f"data.{key} may name {listed(sorted(self.names))}",
                )
        return names

    def _one(self, what: str, split: str, names: Sequence[str]) -> str:
        """Return the array that is meant; of several equal ones, the one with most axes."""
        first, *others = sorted(names, key=lambda name: -self.read(name).ndim)
        values = self.read(first)
        if all(_same(values, self.read(name)) for name in others):
            return first
        both = f"[{split.upper()}, ...]" if split in ("train", "test") else "NAME"
        raise DataError(
            f"{self.place}: {' and '.join(names)} may each be its {what}",
            hint=f"data.{what}=NAME says which, for example data.{what}={names[0]}"
            + f"; data.{what}=[TRAIN, TEST] for two splits" * (both != "NAME"),
        )


def assembled(
    place: str, parts: dict[str, Images], notes: tuple[str, ...], classes: tuple[str, ...]
) -> Published:
    """Put the splits together; validation images are the last ones of those to train."""
    if "test" in parts:
        found = Published(parts["train"], parts["test"], notes=notes, classes=classes)
    else:
        found = divide(place, parts["train"], notes, classes)
    if (validation := parts.get("validation")) is None:
        return found
    train = found.train
    kinds = [f"{each.images.shape} of {each.images.dtype}" for each in (train, validation)]
    if train.images.shape[1:] != validation.images.shape[1:] or (
        train.images.dtype != validation.images.dtype
    ):
        raise DataError(
            f"{place}: its training images are {kinds[0]}, its validation images {kinds[1]}",
            hint="bring both to one shape and type",
        )
    labels, notes = None, found.notes
    if train.labels is not None and validation.labels is not None:
        labels = np.concatenate([train.labels, validation.labels])
    elif train.labels is not None or validation.labels is not None:
        notes += ("labels are not used: training or validation images have none",)
    both = Images(joined(train.images, validation.images), labels)
    return replace(found, train=both, validation_size=len(validation.images), notes=notes)


def _same(one: Pixels, other: Pixels) -> bool:
    """Tell whether two arrays hold the same numbers, whatever their axes are."""
    if one.size != other.size or one.shape[:1] != other.shape[:1]:
        return False
    return np.array_equal(np.asarray(one).ravel(), np.asarray(other).ravel())
