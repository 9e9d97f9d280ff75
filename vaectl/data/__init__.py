"""Data sources: from a name in the configuration to arrays. No JAX here.

Each source has a module that reads what is published; `scale` makes bytes of all of them, `splits`
and `binarization` what a model sees.
"""

from pathlib import Path

from vaectl.base.errors import DataError
from vaectl.data import scale
from vaectl.data.arrays import Dataset, Source
from vaectl.data.settings import Data
from vaectl.data.splits import split

__all__ = ["Dataset", "Source", "load", "source"]


def load(settings: Data, *, progress: bool = False) -> Dataset:
    """Load, split and binarize the data set of a configuration.

    Raises:
        DataError: it is missing, broken, too small, cannot be fetched, or holds no pictures.
    """
    return split(source(settings.source, progress=progress), settings)


def source(name: str, *, progress: bool = False) -> Source:
    """Load a data set by its name: `digits-5k`, `tfds:NAME`, `idx:DIR` or `npz:FILE`.

    Its pixels are bytes, 0 for black and 255 for white, whatever scale they are published in.

    Raises:
        DataError: it is missing, broken, cannot be fetched, or is on no scale that is understood.
    """
    return scale.read(name, _published(name, progress=progress))


def _published(name: str, *, progress: bool) -> Source:
    scheme, _, rest = name.partition(":")
    # each source is imported when it is asked for: TFDS alone takes 0.4 s
    if name == "digits-5k":
        from vaectl.data import digits

        return digits.load()
    if scheme == "tfds" and rest:
        from vaectl.data import tfds

        return tfds.load(rest, progress=progress)
    if scheme == "idx" and rest:
        from vaectl.data import idx

        return idx.load(Path(rest))
    if scheme == "npz" and rest:
        from vaectl.data import npz

        return npz.load(Path(rest))
    raise DataError(
        f"{name}: no such data source", hint="digits-5k, tfds:NAME, idx:DIR or npz:FILE"
    )
