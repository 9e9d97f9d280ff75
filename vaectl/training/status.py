"""The ways in which a training ends."""

from typing import Literal

Status = Literal["finished", "interrupted", "failed"]
