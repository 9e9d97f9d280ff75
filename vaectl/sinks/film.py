"""A film of the training: pictures of fixed codes while the model learns, for `vaectl explore`."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import IO, Annotated, Any, ClassVar, final

import numpy as np
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import Field

from vaectl.base.files import Folder
from vaectl.runs import belongings
from vaectl.runs.film import FILES, FOLDER, KINDS, name_of, steps
from vaectl.sinks._sheets import tiled
from vaectl.sinks.base import Log, Pictures, Results, Sink, Status, Training


class Film(Sink, name="film"):
    """Small PNG files in the run's film/: samples from the same codes, spread over the training.

    A model with two dimensions has a plane of its latent space, too.
    """

    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {FOLDER: FILES}
    misses_pictures: ClassVar[bool] = False

    frames: Annotated[int, Field(ge=2, le=1000)] = 60
    """The most pictures that are kept; a run that is trained further thins out its film.

    There are fewer if epochs end faster than pictures are drawn; the last epoch always has one.
    `vaectl export-log` removes none that training has kept.
    """

    @property
    def pictures_every(self) -> int | None:
        """One: `draws` chooses among all epochs."""
        return 1

    def draws(self, epoch: int, epochs: int) -> bool:
        """Choose the first epoch, the last, and others at even distances."""
        now, before = (self.frames * each // epochs for each in (epoch, epoch - 1))
        return epoch in (1, epochs) or now > before

    def open(self, training: Training) -> Log:
        """Begin a film, or continue an existing one without its frames of later steps."""
        folder = Folder(training.directory).folder(FOLDER)
        folder.make()
        belongings.remove_halves(folder, FILES)
        for step in steps(folder):
            if step not in training.over and (step > training.step or not training.step):
                _remove(folder, step)
        return _Frames(folder, self.frames, training.over)


@final
class _Frames:
    """The folder of a film."""

    def __init__(self, folder: Folder, most: int, over: Set[int]) -> None:
        self._folder, self._most = folder, most
        self._steps = steps(folder)
        self._stay = over & {*self._steps}
        """The steps of frames that cannot be made again."""

    def write(self, results: Results) -> None:
        """Keep the pictures of an epoch, durably; then remove others if there are too many."""
        if results.pictures is None:
            return
        for kind, picture in _pictures(results.pictures).items():
            with self._folder.replacing(name_of(kind, results.step)) as file:
                _save(picture, file)
        self._steps = sorted({*self._steps, results.step})
        while len(self._steps) > self._most:
            least = _least_missed(self._steps, self._stay)
            if least is None:
                break
            self._steps.remove(least)
            _remove(self._folder, least)

    def close(self, status: Status) -> None:
        """Do nothing: each frame is whole once it is written."""


def _least_missed(there: list[int], stay: Set[int]) -> int | None:
    """Return the step to remove: its neighbours are nearest to each other. None if all must stay.

    The first and the last step stay, too.
    """
    gaps = {
        step: after - before
        for before, step, after in zip(there, there[1:], there[2:], strict=False)
        if step not in stay
    }
    return min(gaps, key=gaps.__getitem__, default=None)


def _pictures(pictures: Pictures) -> dict[str, Float[np.ndarray, "height width c"]]:
    """Return what is drawn, by kind."""
    sheets = {"samples": tiled(pictures.samples, 4)}
    if pictures.plane is not None:
        rows, columns, *shape = pictures.plane.shape
        sheets["manifold"] = tiled(pictures.plane.reshape(rows * columns, *shape), columns)
    return sheets


def _save(sheet: Float[np.ndarray, "height width c"], file: IO[bytes]) -> None:
    """Write a PNG of 16 levels, which takes a third of the space of one of 256."""
    levels = np.round(15 * sheet).astype(np.uint8)
    image = Image.fromarray(levels if sheet.shape[-1] == 3 else levels[..., 0])
    if image.mode == "L":
        image.putpalette([17 * level for level in range(16) for _ in range(3)])
    else:
        image = image.point(lambda level: 17 * level)
    note = PngInfo()
    note.add_text("Software", "vaectl film")
    packed: dict[str, Any] = {"bits": 4} if image.mode == "P" else {}
    image.save(file, "png", pnginfo=note, compress_level=1, **packed)


def _remove(folder: Folder, step: int) -> None:
    for kind in KINDS:
        if belongings.is_made(folder, name_of(kind, step), FILES):
            folder.remove(name_of(kind, step))
