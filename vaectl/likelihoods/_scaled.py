"""The scale of likelihoods that have a location and a scale for each pixel."""

from __future__ import annotations

from typing import Literal

from vaectl.likelihoods.base import Likelihood


class Scaled(Likelihood):
    """A likelihood with a scale s beside the location of each pixel, which comes first in `raw`."""

    scale: Literal["pixel", "one", "fixed"] = "one"
    """s: a decoder output for each pixel, one learned number for all pixels, or `fixed_scale`."""

    @property
    def outputs(self) -> int:
        """1 for the location, and 1 more for the scale if it is `pixel`."""
        return 2 if self.scale == "pixel" else 1

    @property
    def shared(self) -> int:
        """1 for the scale if it is `one`."""
        return int(self.scale == "one")
