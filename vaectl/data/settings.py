"""The section of a configuration that says which images are trained on."""

import contextlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vaectl.base.section import Count, Section


def _absolute(source: str) -> str:
    """Make a file source independent of the directory that the command is started in."""
    scheme, separator, rest = source.partition(":")
    if scheme in ("idx", "npz") and rest:
        path = Path(rest)
        with contextlib.suppress(RuntimeError):  # the ~ of an unknown user stays as it is
            path = path.expanduser()
        return f"{scheme}{separator}{path.absolute()}"
    return source


class Data(Section):
    """Which images, and how they become the x of the model."""

    source: Annotated[str, AfterValidator(_absolute)] = Field(
        "digits-5k", pattern=r"^(digits-5k|(tfds|idx|npz):[^\x00\n]+)$"
    )
    """`digits-5k` (embedded), `tfds:NAME`, `idx:DIR` or `npz:FILE`."""
    binarization: Literal["threshold", "stochastic", "none"] = "threshold"
    """`threshold`: 1 where a pixel is at least `threshold`. `stochastic`: a Bernoulli draw with the
    pixel as its probability, anew in each training epoch, fixed for validation and test. `none`:
    the pixels themselves as probabilities."""
    threshold: float = Field(0.5, gt=0, le=1)
    """For `threshold`, as a fraction of full intensity."""
    train_size: Count | None = None
    """The first so many images of the training split; null: all that validation leaves."""
    validation_size: Count | None = None
    """The last so many images of the training split; null: a sixth (10,000 of MNIST's 60,000)."""
    test_size: Count | None = None
    """The first so many images of the test split; null: all."""
