"""Frames of a training: pictures of fixed codes while the model learns, as PNG files in film/.

film/samples-0000000150.png     images of fixed codes from the prior, after step 150
film/manifold-0000000150.png    a plane of the latent space, if it has two dimensions
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vaectl.base.errors import RunError
from vaectl.base.files import Folder

FOLDER = "film"
"""The folder of its pictures in the run directory."""
KINDS = ("manifold", "samples")
FILES: Mapping[str, bytes] = {rf"({'|'.join(KINDS)})-\d{{10}}\.png": rb"\x89PNG.*vaectl film"}
"""The beginnings of its files, by patterns of their names."""
_MOST = 2**24


def name_of(kind: str, step: int) -> str:
    """Name the file of a frame."""
    return f"{kind}-{step:010}.png"


def steps(folder: Folder) -> list[int]:
    """Return the steps after which there are frames, in order.

    Raises:
        OSError: the folder cannot be read.
    """
    found = (re.fullmatch(r"[a-z]+-(\d{10})\.png", name) for name in folder.names())
    return sorted({int(match[1]) for match in found if match})


def frames(run: Folder) -> dict[str, dict[int, bytes]]:
    """Read the frames of a run: PNG files, by step, by kind.

    Raises:
        RunError: they cannot be read.
    """
    folder = run.folder(FOLDER)
    try:
        if run.kind(FOLDER) != "folder":
            return {}
        there = steps(folder)
        return {
            kind: {
                step: folder.read(name_of(kind, step), _MOST)
                for step in there
                if folder.kind(name_of(kind, step)) == "file"
            }
            for kind in KINDS
        }
    except OSError as error:
        raise RunError.of(error, folder.path) from None
