"""`images:DIR`: a folder of pictures, with subfolders for classes, for splits, or without any."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vaectl.base.errors import DataError
from vaectl.base.files import regular
from vaectl.base.nearest import did_you_mean_path
from vaectl.base.plural import plural
from vaectl.base.terminal import Tell, silent
from vaectl.data.sources.base import LocalSource

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt

    from vaectl.data.arrays import Published
    from vaectl.data.pictures import Decoder, Picture
    from vaectl.data.stored import Pixels, Stored

SUFFIXES = {
    *(".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *(".pbm", ".pgm", ".pnm", ".ppm"),
}
"""The endings of pictures' names, in lower case."""
_RESIZED = {
    "crop": "cut to the proportions of this size, equally at both ends, and resized",
    "stretch": "resized, whatever their proportions",
    "pad": "resized, with black borders where their proportions differ",
}
"""The ways to bring pictures to one size, by `data.resize`."""

_FORMAT = 3
"""The version of how pictures are decoded; those that an older one prepared are not used."""


class _Found(NamedTuple):
    """The files of a folder."""

    pictures: list[Path]
    """Relative to the folder, sorted."""
    skipped: list[Path]
    """Hidden files, files that are not pictures, and links to folders; also relative and sorted."""


class _Part(NamedTuple):
    """The pictures of a split: those from one place to another."""

    start: int
    stop: int
    labels: np.ndarray[Any, np.dtype[np.int32]] | None
    """The number of the class of each; None without classes."""


class ImageFolder(LocalSource, name="images"):
    """PNG, JPEG, BMP, GIF, PPM, TIFF and WebP files, of one size or brought to one.

    Each subfolder is a class, with all pictures below it at any depth; classes are numbered in the
    order of their names. Without subfolders there are no classes. If the subfolders have names of
    splits, such as train, val and test, they are the splits; each may have subfolders for classes,
    and is shuffled, always in the same way. If no pixel of any file has a colour, images have one
    channel, else three. What is transparent becomes white. Of a file with several frames or pages,
    such as an animation or a stack, the first is read, and a note says so. Links to files are
    followed wherever they lead, as for the other local sources; links to folders are not.
    """

    placeholder = "DIR"
    what = "a folder of PNG, JPEG, ...; a subfolder for each class; data.size resizes"
    heeds = LocalSource.heeds | {"size", "resize", "channels"}

    @classmethod
    def holds(cls, names: Sequence[str]) -> bool:
        """Recognize a folder by a picture at any depth."""
        return any(_is_picture(Path(name)) for name in names)

    def load(self, *, progress: bool = False) -> Published:
        """Read all pictures, in the order of their paths, and split them."""
        from vaectl.data.arrays import most_in_memory

        return self.load_within(most_in_memory(), silent, progress=progress)

    def load_within(
        self,
        most: int,
        tell: Tell,
        *,
        progress: bool = False,  # noqa: ARG002
    ) -> Published:
        """Read all pictures; if they take too much memory, decode them once into a file."""
        from vaectl.data.arrays import Images, spread
        from vaectl.data.named import assembled
        from vaectl.data.pictures import first_frames, with_levels

        found = _walk(self.path)
        if not found.pictures:
            raise DataError(
                f"{self.path}: no pictures in it; {len(found.skipped)} skipped",
                hint=f"names of pictures end in {', '.join(sorted(SUFFIXES))}",
            )
        classes, parts = _parts(self.path, found.pictures)
        paths = [self.path / path for path in found.pictures]

        def read(decoder: Decoder) -> tuple[Pixels, int]:
            images: Pixels | None = _stack(paths, decoder, most)
            if images is None:
                images = _prepared(self.path, found.pictures, decoder, tell)
            return images, decoder.frames

        images, frames = with_levels(self.reading, read)
        splits = {}
        for split, part in parts.items():
            own = Images(images[part.start : part.stop], part.labels)
            # without a test split the training images are divided, and `divide` spreads them
            splits[split] = spread(own) if split != "train" or "test" in parts else own
        notes = _describe(images, classes), *first_frames(frames), *self._notes(found, parts)
        return assembled(str(self), splits, notes, tuple(classes))

    def _notes(self, found: _Found, parts: dict[str, _Part]) -> Iterator[str]:
        """Say how the pictures were split and resized, and what was skipped."""
        if len(parts) > 1:
            sizes = [f"{split} ({part.stop - part.start:,})" for split, part in parts.items()]
            yield f"splits by subfolder, each shuffled: {', '.join(sizes)}"
        if self.reading.size is not None:
            yield f"pictures of other sizes were {_RESIZED[self.reading.resize]}"
        if found.skipped:
            yield (
                f"skipped {len(found.skipped)}, hidden, links to folders or no pictures; the "
                f"first is {found.skipped[0]}"
            )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _walk(root: Path) -> _Found:
    """Find the pictures of a folder."""

    def refuse(error: OSError) -> None:
        raise DataError.of(error, near=did_you_mean_path(Path(error.filename))) from None

    pictures: list[Path] = []
    skipped: list[Path] = []
    for folder, below, names in os.walk(root, onerror=refuse):
        here = Path(folder).relative_to(root)
        out = {name for name in below if name.startswith(".") or (root / here / name).is_symlink()}
        below[:] = [name for name in below if name not in out]
        skipped += [here / name for name in out]
        for name in names:
            (pictures if _is_picture(Path(name)) else skipped).append(here / name)
    return _Found(sorted(pictures), sorted(skipped))


def _parts(root: Path, pictures: list[Path]) -> tuple[list[str], dict[str, _Part]]:
    """Return the names of the classes, and the pictures of each split; without splits all train.

    Raises:
        DataError: the subfolders do not define the split or the class of every picture.
    """
    import numpy as np

    splits = _splits(root, pictures)
    depth = int(bool(splits))
    places: dict[str, list[int]] = {}
    for place, path in enumerate(pictures):
        places.setdefault(splits.get(path.parts[0], "train"), []).append(place)
    found = {
        split: _classes(root, [pictures[place] for place in of_split], depth)
        for split, of_split in places.items()
    }
    names = sorted({name for classes in found.values() for name in classes})
    number = {name: i for i, name in enumerate(names)}
    return names, {
        split: _Part(
            places[split][0],
            places[split][-1] + 1,
            np.array([number[name] for name in classes], np.int32) if classes else None,
        )
        for split, classes in found.items()
    }


def _splits(root: Path, pictures: list[Path]) -> dict[str, str]:
    """Return what each subfolder is, train, test or validation; nothing if they are no splits."""
    from vaectl.data.named import meaning

    names = [*dict.fromkeys(path.parts[0] for path in pictures)]
    meant = {name: meaning(name) for name in names}
    splits = {name: found.split for name, found in meant.items() if found and found.split}
    others = [name for name in names if name not in splits]
    found = {*splits.values()}
    if len(names) == 1 and not (found == {"train"} and len(pictures[0].parts) > 2):
        return {}  # a class, whatever its name is
    if not splits or (others and not found >= {"train", "test"}):
        return {}
    if others:
        odd = f"and {others[0]} is not"
    elif len(found) < len(splits):
        odd = "two of them as one split"
    elif "train" not in found:
        odd = "and none has training images"
    else:
        return splits
    raise DataError(
        f"{root}: its subfolders {' and '.join(splits)} are named as splits, {odd}",
        hint="name all subfolders as splits: train, test and, where there are such images, val; or "
        "none of them",
    )


def _classes(root: Path, pictures: list[Path], depth: int) -> list[str]:
    """Return the class of each picture, the name of a subfolder; nothing if there are none.

    Args:
        root: the folder, for messages.
        pictures: of one split.
        depth: the number of folders above those of classes.
    """
    beside = [path for path in pictures if len(path.parts) == 1 + depth]
    if len(beside) == len(pictures):
        return []
    if beside:
        inside = next(path for path in pictures if len(path.parts) > 1 + depth)
        raise DataError(
            f"{root}: pictures beside subfolders with pictures: {beside[0]} and {inside}",
            hint="move all pictures into subfolders, one for each class, or all into one folder",
        )
    return [path.parts[depth] for path in pictures]


def _of_one_size(paths: list[Path], decoder: Decoder) -> Iterator[Picture]:
    """Read pictures one by one, in the size and with the channels that are asked for."""
    size: tuple[int, ...] = ()
    for path in paths:
        try:
            with regular(path) as file:
                picture = decoder.decoded(file)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from None
        except Exception as error:  # the decoders may raise anything
            raise _unreadable(path, str(error) or type(error).__name__) from None
        size = size or picture.shape[:2]
        if picture.shape[:2] != size:
            sizes = [f"{w}x{h}" for h, w in (size, picture.shape[:2])]
            raise DataError(
                f"pictures of two sizes: {paths[0]} has {sizes[0]} pixels, {path} has {sizes[1]}",
                hint="data.size=32, or another number of pixels, resizes all; data.resize says "
                "how: crop, stretch or pad",
            )
        yield picture
    decoder.finish()


def _stack(
    paths: list[Path], decoder: Decoder, most: int
) -> UInt[np.ndarray, "images height width *channels"] | None:
    """Read pictures in one size.

    Returns:
        All of them; None if they are more than `most` bytes.

    Raises:
        DataError: one cannot be read, or two differ in size.
    """
    from vaectl.data.pictures import stacked

    pictures: list[Picture] = []
    for picture in _of_one_size(paths, decoder):
        if picture.nbytes * len(paths) > most:
            return None
        pictures.append(picture)
    return stacked(pictures)


def _prepared(root: Path, pictures: list[Path], decoder: Decoder, tell: Tell) -> Stored:
    """Decode pictures into a file of the cache, unless it is there."""
    from vaectl.data import cache
    from vaectl.data.pictures import rgb

    key, count = _key(root, pictures, decoder), len(pictures)
    paths = [root / path for path in pictures]

    def grey() -> Iterator[Picture]:
        for picture in _of_one_size(paths, decoder):
            if picture.ndim == 3:
                raise _Coloured
            yield picture

    try:
        images = cache.stored(key, count, grey, tell)
    except _Coloured:
        images = cache.stored(key, count, lambda: map(rgb, _of_one_size(paths, decoder)), tell)
    if _key(root, pictures, decoder) != key:
        raise DataError(
            f"{root}: a picture was changed while all were read",
            hint="try again once nothing writes there",
        )
    return images


class _Coloured(Exception):  # noqa: N818  # no error
    """A picture has colours, so all become RGB."""


def _key(root: Path, pictures: list[Path], decoder: Decoder) -> str:
    """Return the key by which the file of prepared pictures is found.

    It depends on the names of all pictures, on how they are read, and on the status of each file:
    writing to a picture changes its ctime, which ordinary programs cannot set back.
    """
    import hashlib

    import PIL

    digest = hashlib.sha256(f"{PIL.__version__} {_FORMAT} {decoder.deep}".encode())
    heeded = {"size", "resize", "channels", "range"}  # the range decides which levels are kept
    asked = decoder.reading.model_dump_json(include=heeded, exclude_defaults=True)
    if asked != "{}":
        digest.update(asked.encode())
    for path in pictures:
        try:
            found = (root / path).stat()
        except OSError as error:
            raise _unreadable(root / path, error.strerror or str(error)) from None
        facts = found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
        digest.update(f"{os.fsencode(path)!r} {facts}".encode())
    return f"images-{digest.hexdigest()[:16]}"


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: not a readable picture: {reason}",
        hint="look at the file; save it again as a PNG of 8 bits, or move it away",
    )


def _describe(images: Pixels, classes: list[str]) -> str:
    """Say how the pictures were understood."""
    from vaectl.data.labels import told

    count, height, width, *channels = images.shape
    pictures = plural(count, f"{'RGB' if channels else 'grey'} picture")
    text = f"{pictures} of {width}x{height} pixels"
    return (
        f"{text}, classes by subfolder: {told(classes)}" if classes else f"{text}, without classes"
    )
