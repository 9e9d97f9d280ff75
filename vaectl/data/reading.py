"""Settings for the reading of images that cannot be derived from the images themselves.

They are keys of the section `data` of a configuration. A source has them in `reading`. Its `heeds`
lists the settings that it understands; others are refused.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from vaectl.base.section import Count, Section


def _listed(value: Any) -> Any:
    """Turn a single name into a list; a number names a column of a table without names."""
    names = [value] if isinstance(value, str | int) and not isinstance(value, bool) else value
    if not isinstance(names, Sequence):
        return names
    return [str(name) if isinstance(name, int) else name for name in names]


def _sides(value: Any) -> Any:
    """Turn a single number into a height and a width."""
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


def _apart(ends: tuple[float, ...]) -> tuple[float, ...]:
    if ends[0] == ends[1]:
        raise ValueError("black and white should be two different values")
    return ends


Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(strict=False, max_length=2)]
_TWO = Field(strict=False, min_length=2, max_length=2)
Sides = Annotated[tuple[Count, ...], BeforeValidator(_sides), _TWO]
Shape = Annotated[tuple[Count, ...], Field(strict=False, min_length=2, max_length=3)]
Ends = Annotated[tuple[float, ...], _TWO, AfterValidator(_apart)]


class Reading(Section):
    """Settings for the reading of images; by default they are derived from the images."""

    images: Names | None = None
    """The name of the array of images in an archive or a folder of arrays, or of the column of a
    table whose cells are whole images; [TRAIN, TEST] names the arrays of two splits; null: found by
    the names that people use."""
    labels: Names | None = None
    """The name of the array or of the column of labels; [TRAIN, TEST] names two arrays; a number is
    the column of a table without names, counted from 1; []: no labels; null: found by name."""
    shape: Shape | None = None
    """The shape of each image in an array or a row of a table: [height, width], [height, width, 3],
    or [3, height, width] where channels come first; null: found by its axes, and where the numbers
    of an image stand in one row, by how many they are."""
    range: Ends | None = None
    """[black, white]: the values that mean black and white; values beyond them are cut off. With
    the larger value first, images are inverted. null: derived from the values."""
    size: Sides | None = None
    """[height, width] in pixels, or one number for both, to which the pictures of a folder are
    resized; null: they have one size."""
    resize: Literal["crop", "stretch", "pad"] = "crop"
    """The way to fit pictures with other proportions than `size`: `crop` cuts off what is too
    long, equally at both ends; `stretch` changes the proportions; `pad` adds black borders."""
    channels: Literal[1, 3] | None = None
    """1: the pictures of a folder are read as grey; 3: as RGB; null: as grey if none has a colour,
    else as RGB."""


PLAIN = Reading()
"""Everything is found by looking at the images."""
