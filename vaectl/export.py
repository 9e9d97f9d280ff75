"""Export a trained model: write it in some formats, each verified against the run.

A file is kept only if what is loaded from it computes the same as the run, to the tolerance of the
format, on images of the run's data and in batches of several sizes. Both compute in full float32:
some devices round the factors of matrix products, by more than any tolerance here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vaectl.base import devices
from vaectl.base.errors import RunError, VaectlError, first_line
from vaectl.base.files import Folder, make_directory
from vaectl.exports.base import FOLDER, Coders, Export, Files, functions
from vaectl.runs import belongings
from vaectl.runs.trained import Trained
from vaectl.vae.vae import unit

Images = UInt8[np.ndarray, "images h w *c"]
Made = TypeVar("Made")

BATCHES = (1, 7, 64)
"""Sizes of the batches on which functions are compared; the largest is that of the images."""


class Differences(NamedTuple):
    """The largest differences between an exported model and the run.

    The difference of two arrays is max |exported - run| / max(1, max |run|).
    """

    encode: float
    """The larger difference of mean and log-variance of q(z|x)."""
    decode: float
    """The difference of the means of the pixels."""

    @property
    def largest(self) -> float:
        """The larger of the two; infinite if shapes differ or numbers are not finite."""
        return max(self)


class Exported(NamedTuple):
    """A model in one format, as it was kept."""

    format: str
    files: list[Path]
    bytes: int
    differences: Differences | None
    """The differences from the run; None if the format has no functions to compare."""
    tolerance: float
    """The largest difference at which it is kept."""
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return everything as plain values."""
        found = self.differences
        return {
            **self._asdict(),
            "files": [str(path) for path in self.files],
            "differences": found and found._asdict(),
        }


class Result(NamedTuple):
    """The result of an export: the formats that were written, and those that were not."""

    folder: Path
    exported: list[Exported]
    errors: list[VaectlError]
    """The reasons why some formats were not kept."""

    def check(self) -> None:
        """Raise one error with all reasons why formats were not kept, of the kind of the first one.

        Raises:
            VaectlError: a format was not kept.
        """
        if self.errors:
            first = self.errors[0]
            messages = dict.fromkeys(error.message for error in self.errors)
            raise type(first)("\n".join(messages), hint=first.hint)


@devices.pinned()
def export(
    model: Trained,
    formats: list[Export],
    output: Path | None = None,
    watch: Callable[[str], None] = lambda _what: None,
) -> Result:
    """Write a model in some formats; a format that fails does not stop the others.

    Args:
        model: a trained model.
        formats: what to write.
        output: the folder; None for `export/` in the run.
        watch: told what is being done.

    Raises:
        ConfigError: a format needs what is not installed.
        RunError: the folder cannot be made.
    """
    for each in formats:
        each.check()
    folder = Folder(output) if output else model.rundir.folder.folder(FOLDER)
    try:
        make_directory(output) if output else folder.make()
    except OSError as error:
        raise RunError.of(error, what="cannot be written") from None
    result = Result(folder.path, [], [])
    images = cache(lambda: np.asarray(model.split("test").images[: max(BATCHES)]))
    for each in formats:
        watch(f"exporting {model.title} as {each.name}")
        try:
            with jax.default_matmul_precision("highest"):
                result.exported.append(_export(model, each, folder, images))
        except VaectlError as error:
            result.errors.append(error)
    return result


def _export(model: Trained, form: Export, folder: Folder, images: Callable[[], Images]) -> Exported:
    """Write, verify and keep one format.

    Raises:
        DataError: the images are missing, or are not the run's.
        RunError: the model cannot be written in it, what was written differs from the run, or the
            files cannot be kept.
    """
    start = time.perf_counter()
    files = _made(model, form, lambda: form.write(model))
    coders = _made(model, form, lambda: form.read(files))
    found = None
    if coders is not None:
        found = _made(model, form, lambda: differences(model, coders, images()))
        if not found.largest <= form.tolerance:
            raise RunError(
                f"{model.title}: as {form.name} it differs from the run by {found.largest:.1e}, "
                f"more than {form.tolerance:.0e}, and was not kept",
                hint="choose another format; the difference is relative to the largest number "
                "that the run computes, if that is above 1",
            )
    paths = _kept(form, folder, files)
    size = sum(map(len, files.values()))
    return Exported(
        form.name, paths, size, found, form.tolerance, round(time.perf_counter() - start, 3)
    )


def differences(model: Trained, coders: Coders, images: Images) -> Differences:
    """Compare functions with those of the run, in batches of several sizes.

    Args:
        model: the model of the run.
        coders: the functions.
        images: real images; they and samples from the prior give the codes to decode.
    """
    encode, decode = map(jax.jit, functions(model.vae, model.variables))
    # fewer images than the largest batch are repeated
    x = np.resize(unit(jnp.asarray(images)), (max(BATCHES), *model.image_shape))
    encoded, decoded = 0.0, 0.0
    for size in BATCHES:
        labels = model.in_turn(size)
        label = () if labels is None else (labels.astype(np.int32),)
        mu, log_var = (np.asarray(array) for array in encode(x[:size], *label))
        for ours, theirs in zip((mu, log_var), coders.encode(x[:size], *label), strict=True):
            encoded = max(encoded, _difference(ours, theirs))
        for z in (mu, model.prior(size)):
            ours = np.asarray(decode(z, *label))
            decoded = max(decoded, _difference(ours, coders.decode(z, *label)))
    return Differences(encoded, decoded)


def _difference(ours: Float[np.ndarray, "*shape"], theirs: Float[np.ndarray, "*shape"]) -> float:
    """Return max |theirs - ours| / max(1, max |ours|); infinite without such numbers."""
    if ours.shape != theirs.shape or not np.isfinite([ours, theirs]).all():
        return float("inf")
    found = np.abs(theirs.astype(np.float64) - ours).max(initial=0.0)
    return float(found / max(1.0, np.abs(ours).max(initial=0.0)))


def _made(model: Trained, form: Export, make: Callable[[], Made]) -> Made:
    """Turn any exception of a converter or an engine into a RunError.

    Raises:
        RunError: the format cannot hold this model.
    """
    try:
        return make()
    except VaectlError:
        raise
    except Exception as error:
        raise RunError(
            f"{model.title}: cannot be exported as {form.name}: {type(error).__name__}: "
            f"{first_line(error)}",
            hint="a model of your own must take any batch: x.shape[0], not len(x); "
            "else choose another format",
        ) from error


def _kept(form: Export, folder: Folder, files: Files) -> list[Path]:
    """Write files durably, each as a whole, and read them back.

    Raises:
        RunError: a file that vaectl did not make is in the way, or the disk refuses.
    """
    made = form.leaves.get(FOLDER, {})
    try:
        for name in belongings.others(folder, made):
            if name in files:
                raise RunError(
                    f"{folder.path / name}: not made by vaectl, and not replaced",
                    hint="move it away, or choose another --output",
                )
        belongings.remove_halves(folder, made)
        for name, content in files.items():
            with folder.replacing(name) as file:
                file.write(content)
            if folder.read(name, len(content)) != content:
                folder.remove(name)
                raise RunError(
                    f"{folder.path / name}: the disk returns something else than was written",
                    hint="check the disk, or choose another --output",
                )
    except OSError as error:
        raise RunError.of(error, what="cannot be written") from None
    return [folder.path / name for name in files]
