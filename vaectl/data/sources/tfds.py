"""`tfds:NAME`: data sets by tensorflow-datasets (TFDS), some of them without TensorFlow.

TFDS reads what it has prepared without TensorFlow, but needs it to prepare most data sets. Those
that are published as IDX files are downloaded from the addresses that TFDS registers, checked
against its SHA-256 sums, and parsed here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vaectl.base.cache import directory
from vaectl.base.errors import DataError, first_line
from vaectl.base.nearest import did_you_mean
from vaectl.base.terminal import Tell, silent
from vaectl.data.sources.base import Entry, Source

if TYPE_CHECKING:
    from vaectl.data.arrays import Images, Published

IDX_SETS = {
    "mnist": "70,000 handwritten digits, 28x28",
    "fashion_mnist": "70,000 pictures of clothes, 28x28",
    "kmnist": "70,000 Japanese characters, 28x28",
}
"""The data sets that are published as IDX files."""
_NAME = re.compile(r"[a-z0-9_]+(/[A-Za-z0-9_.-]+)?(:\d+\.\d+\.\d+)?")
_SPLITS = ("train", "test")
"""The splits that are read."""
_TIMEOUT_SECONDS = 10
_OTHERS = "vaectl data list shows data sets that work"


class Tfds(Source, name="tfds"):
    """A data set of TFDS with one or three channels, by its name there: `emnist/balanced`, ...

    It is downloaded, prepared and cached if need be.
    """

    placeholder = "NAME"
    state = "to prepare: pip install 'vaectl[tfds]'"
    what = "any set of one or three channels"
    examples = tuple(IDX_SETS)
    nicknames = {name: name for name in IDX_SETS}  # noqa: RUF012  # a constant of the class
    needs_network = True

    @property
    def title(self) -> str:
        """The name that TFDS gives it."""
        return self.rest

    def load(self, *, progress: bool = False) -> Published:
        """Load the cached copy; if there is none, download or prepare the data set first."""
        from vaectl.data.arrays import most_in_memory

        return self.load_within(most_in_memory(), silent, progress=progress)

    def load_within(self, most: int, tell: Tell, *, progress: bool = False) -> Published:
        """Load the cached copy; images that take too much memory are decoded once into a file.

        The names of the classes come from TFDS, also those of a copy that was cached without names.
        """
        from vaectl.data import cache

        name = self.rest
        builder = _builder(name)
        if name in IDX_SETS:
            found = cache.cached(idx_key(name), lambda: _download(name, builder, progress))
        else:
            key = "tfds-" + f"{builder.info.full_name}".replace("/", "-")
            prepare = partial(_prepared, key, name, builder, most, tell, progress)
            found = cache.cached(key, prepare, most)
            unused = [split for split in builder.info.splits if split not in _SPLITS]
            # a copy of an older vaectl may have labels that are none
            if "label" in builder.info.features and found.train.labels is None:
                unused.append("label, which is not the number of a class")
            if unused:
                found = replace(found, notes=(*found.notes, f"not used: {', '.join(unused)}"))
        labelled = found.train.labels is not None
        return replace(found, classes=_class_names(builder.info.features) if labelled else ())

    @classmethod
    def entries(cls) -> list[Entry]:
        """Say which of the sets published as IDX files are ready, and name another one."""
        sets = [
            Entry(
                f"tfds:{name}",
                "ready: cached" if is_ready(name) else f"downloads {_download_size(name)} once",
                what,
            )
            for name, what in IDX_SETS.items()
        ]
        prepared = Entry("tfds:emnist/balanced", cls.state, "letters, digits")
        return [*sets, prepared, *super().entries()]


def idx_key(name: str) -> str:
    """The cache key of a data set published as IDX files: its name and its checksums."""
    checksums = sorted(info.checksum for info in _builder(name).url_infos.values())
    return f"tfds-{name}-{hashlib.sha256(''.join(checksums).encode()).hexdigest()[:16]}"


def _builder(name: str) -> Any:
    if not _NAME.fullmatch(name):  # TFDS would look for code of that name
        raise DataError(
            f"tfds:{name}: not the name of a data set",
            hint="tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:1.2.3",
        )
    with _quiet_tfds():
        import tensorflow_datasets as tfds

        try:
            # TFDS itself reads TFDS_DATA_DIR only once, when it is imported
            place = os.environ.get("TFDS_DATA_DIR")
            return tfds.builder(name, file_format="array_record", data_dir=place)
        except tfds.core.DatasetNotFoundError:
            raise DataError(
                f"tfds:{name}: tensorflow-datasets has no data set of this name"
                + did_you_mean(name, IDX_SETS),
                hint="vaectl data list shows some; TFDS's catalogue has all",
            ) from None
        except Exception as error:  # TFDS raises whatever it meets
            raise DataError(f"tfds:{name}: {first_line(error)}", hint=_OTHERS) from None


def _class_names(features: Any) -> tuple[str, ...]:
    """Return the names of the classes by number; none if their numbers are all that they have."""
    names = getattr(features["label"], "names", ()) if "label" in features else ()
    numbers = [str(number) for number in range(len(names))]
    return () if list(names) == numbers else tuple(names)


def _has_classes(features: Any) -> bool:
    """Tell whether each image has a class, which is one whole number or a boolean."""
    import numpy as np

    if "label" not in features or features["label"].shape != ():
        return False
    return np.dtype(features["label"].np_dtype).kind in "biu"


def _download(name: str, builder: Any, progress: bool) -> Published:
    """Download the IDX files of a data set into a directory of its own, and parse them."""
    import pooch
    import requests

    from vaectl.data import cache, idx

    pooch.get_logger().setLevel(logging.WARNING)
    # a directory of its own: these data sets give their files the same names
    downloads = directory() / "downloads" / name
    for url, info in builder.url_infos.items():
        downloader = pooch.HTTPDownloader(
            progressbar=progress, timeout=_TIMEOUT_SECONDS, headers={"User-Agent": "vaectl"}
        )
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{info.checksum}",
                fname=info.filename,
                path=downloads,
                downloader=downloader,
            )
        except requests.RequestException as error:
            raise DataError(
                f"tfds:{name}: {url} cannot be fetched: {_reason(error)}", hint=_without_network()
            ) from None
        except ValueError:  # pooch raises it for a wrong checksum, and has deleted the file
            raise DataError(
                f"tfds:{name}: {url} is not the file that TFDS registers: its SHA-256 differs",
                hint="try again; if it happens again, the file or the connection was tampered with",
            ) from None
        except OSError as error:
            raise DataError.of(error, downloads, "cannot be written", hint=cache.ROOM) from None
    return idx.read_folder(downloads)


def _prepared(
    key: str, name: str, builder: Any, most: int, tell: Tell, progress: bool
) -> Published:
    """Read a data set that TFDS has prepared; prepare it where TensorFlow is installed.

    One that has training images alone is divided.
    """
    import numpy as np

    from vaectl.data.arrays import Published, divide

    _check_features(name, builder)
    with _quiet_tfds(progress):
        if not builder.is_prepared():
            _prepare(name, builder)
        splits = {
            split: builder.as_data_source(split)
            for split in _SPLITS
            if split in builder.info.splits
        }
        if "train" not in splits:
            raise DataError(
                f"tfds:{name} has the splits {', '.join(builder.info.splits)}; vaectl wants train",
                hint=_OTHERS,
            )
        if not all(map(len, splits.values())):
            raise DataError(f"tfds:{name}: a split without images", hint=_OTHERS)
        size = sum(map(len, splits.values())) * np.asarray(splits["train"][0]["image"]).nbytes
        found = {
            split: _collect(records, builder.info.features)
            if size <= most
            else _stored(f"{key}-{split}", records, builder.info.features, tell)
            for split, records in splits.items()
        }
    if "test" not in found:
        return divide(f"tfds:{name}", found["train"])
    return Published(found["train"], found["test"])


def _check_features(name: str, builder: Any) -> None:
    features = builder.info.features
    shape = tuple(features["image"].shape) if "image" in features else None
    if shape is None or len(shape) != 3 or shape[-1] not in (1, 3) or None in shape:
        found = "no images" if shape is None else f"images of shape {shape}"
        raise DataError(
            f"tfds:{name} has {found}; vaectl wants (height, width, 1) or (height, width, 3), of "
            "one size",
            hint=_OTHERS,
        )


def _prepare(name: str, builder: Any) -> None:
    from tensorflow_datasets.core.download import downloader

    try:
        import tensorflow  # noqa: F401  # TFDS would fail without it, with a traceback
    except ImportError:
        raise DataError(
            f"tfds:{name} is not prepared on this machine, and TFDS needs TensorFlow to do it",
            hint="pip install 'vaectl[tfds]', then vaectl data prepare tfds:" + name,
        ) from None
    retries, downloader.MAX_RETRIES = downloader.MAX_RETRIES, 1
    try:
        with redirect_stdout(sys.stderr):  # TFDS reports its progress on stdout
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        # TFDS raises whatever its backends raise
        raise DataError(
            f"tfds:{name} cannot be prepared: {_reason(error)}", hint=_without_network()
        ) from error
    finally:
        downloader.MAX_RETRIES = retries


def _stored(key: str, records: Any, features: Any, tell: Tell) -> Images:
    """Decode a split into files of the cache, unless they are there.

    ArrayRecord files could be read one record at a time, too, but each is a compressed picture, and
    to decode all of them anew takes longer than an epoch.
    """
    import numpy as np

    from vaectl.data import cache
    from vaectl.data.arrays import Images

    *shape, channels = features["image"].shape
    shape = shape if channels == 1 else [*shape, channels]
    count, labels = len(records), []

    def images() -> Iterator[np.ndarray]:
        for record in records:
            labels.append(record.get("label"))
            yield np.asarray(record["image"]).reshape(shape)

    def classes() -> Iterator[np.ndarray]:
        for label in labels or (record["label"] for record in records):
            yield np.asarray(label, np.int32)

    found = cache.stored(key, count, images, tell)
    if not _has_classes(features):
        return Images(found, None)
    known = cache.stored(f"{key}-labels", count, classes, tell)
    return Images(found, np.asarray(known))


def _collect(records: Any, features: Any) -> Images:
    import numpy as np

    from vaectl.data.arrays import Images

    images, labels = [], []
    for record in records:
        images.append(np.asarray(record["image"]))
        labels.append(record.get("label"))
    stacked = np.stack(images)
    return Images(
        stacked[..., 0] if stacked.shape[-1] == 1 else stacked,
        np.asarray(labels, np.int32) if _has_classes(features) else None,
    )


@contextmanager
def _quiet_tfds(progress: bool = False) -> Iterator[None]:
    """Keep TFDS's log lines, and its bars where none are wanted, off the terminal."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        if not progress:
            import tensorflow_datasets as tfds

            tfds.disable_progress_bar()
        yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    text = str(error)
    for sign, reason in (
        ("resolve", "its host name is not found"),
        ("timed out", f"no answer within {_TIMEOUT_SECONDS} seconds"),
        ("refused", "the connection was refused"),
        ("roxy", "the proxy does not let it through"),
    ):
        if sign in text:
            return reason
    return first_line(error)


def is_ready(name: str) -> bool:
    """Tell whether a data set published as IDX files is in the cache."""
    from vaectl.data import cache

    return cache.path(idx_key(name)).is_file()


def _download_size(name: str) -> str:
    return f"{sum(int(info.size) for info in _builder(name).url_infos.values()) / 1e6:.0f} MB"


def _without_network() -> str:
    others = [source.form() for source in Source.known.values() if not source.needs_network]
    return f"without a network, set data.source to one of {', '.join(others)}"
