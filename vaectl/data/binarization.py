"""Turn intensities into the x of a model.

Results keep the scale 0 to 255, so that one division serves every binarization.
"""

import zlib
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from vaectl.data.settings import Data
from vaectl.data.stored import Index, Pixels, Stored, changed

SplitName = Literal["train", "validation", "test"]


def meaning(settings: Data) -> str:
    """Describe what x is, as results have to state it."""
    return {
        "threshold": f"binarized at {settings.threshold:g}",
        "stochastic": "binarized by draws, anew each training epoch, fixed for evaluation",
        "static": "binarized by one draw, the same in every epoch",
        "none": "intensities as probabilities: the NLL is a cross-entropy, not of binary images",
    }[settings.binarization]


def binarize(images: Pixels, settings: Data, split: SplitName) -> Pixels:
    """Binarize a split, as far as that is done before training.

    `threshold`: 255 where the pixel is at least the threshold, else 0 (the paper's, at 0.5).
    `stochastic`: 255 with the pixel as probability, by a draw that depends on the split alone, so
    that every run is evaluated on the same images; training images keep their levels, and training
    draws them anew in each epoch. `static`: one draw of all splits, as
    Salakhutdinov & Murray 2008 made it for MNIST. `none`: unchanged.
    """
    if settings.binarization == "threshold":
        lowest = np.uint8(np.argmax(np.arange(256) / 255 >= settings.threshold))
        return changed(
            images,
            lambda part: (part >= lowest).astype(np.uint8) * np.uint8(255),
            np.dtype(np.uint8),
        )
    drawn = {"stochastic": split != "train", "static": True}
    return draw(images, split) if drawn.get(settings.binarization) else images


def draw(images: Pixels, split: SplitName) -> Pixels:
    """Draw each pixel as 255 with its intensity as probability, else as 0.

    The draws of a split are always the same.
    """
    # image by image: the draw of the first n images does not depend on how many follow
    if isinstance(images, Stored):
        return images.map(lambda part, places: _drawn(part, split, places), images.dtype)
    return _drawn(images, split)


def _drawn(
    images: UInt8[np.ndarray, "*shape"], split: SplitName, places: Index | None = None
) -> UInt8[np.ndarray, "*shape"]:
    """Draw images of a split: all of them, or those at some places."""
    bits = np.random.Philox(key=zlib.crc32(split.encode()))
    rng = np.random.Generator(bits)
    begin = bits.state
    binary = np.empty_like(images)
    for number, (image, out) in enumerate(zip(images, binary, strict=True)):
        if places is not None:
            # an image takes one number for each pixel, and the generator makes four at once
            bits.state = begin
            rounds, rest = divmod(int(places[number]) * image.size, 4)
            bits.advance(rounds)
            rng.random(rest)
        out[...] = np.where(255 * rng.random(image.shape) < image, 255, 0)
    return binary
