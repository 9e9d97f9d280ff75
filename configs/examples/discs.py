r"""A data source of your own: coloured discs, drawn when they are asked for.

    vaectl train --plugin configs/examples/discs.py --likelihood gaussian \
        --set data.source=discs:3000 --set data.binarization=none --epochs 20
    vaectl sample latest --plugin configs/examples/discs.py

It trains for half a minute on two cores; the run directory is like any other. run.json records this
file's SHA-256; commands that load the run need `--plugin`.
"""

import numpy as np

from vaectl.base.errors import DataError
from vaectl.data.arrays import Images, Published, divide
from vaectl.data.sources.base import Source

COLOURS = np.array([(220, 40, 40), (40, 190, 60), (40, 70, 220)], np.uint8)
PAPER = np.array((245, 240, 230), np.uint8)
SIDE = 16


class Discs(Source, name="discs"):
    """`discs:COUNT`: images of one disc of random place and size; its colour is its class."""

    placeholder = "COUNT"
    what = "coloured discs on paper, 16x16 RGB"

    def load(self, *, progress: bool = False) -> Published:  # noqa: ARG002
        """Draw the images; they are always the same."""
        if not (self.rest.isdecimal() and int(self.rest) <= 10**6):
            raise DataError(f"{self}: not a number of discs", hint="for example discs:3000")
        count, rng = int(self.rest), np.random.default_rng(0)
        labels = rng.integers(len(COLOURS), size=count).astype(np.int32)
        x, y = rng.uniform(4, SIDE - 4, (2, count, 1, 1))
        radius = rng.uniform(2, 5, (count, 1, 1))
        rows, columns = np.ogrid[:SIDE, :SIDE]
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        images = np.where(inside[..., np.newaxis], COLOURS[labels][:, None, None], PAPER)
        # a source without splits uses `divide` to make them
        return divide(str(self), Images(images, labels))
