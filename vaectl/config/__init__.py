"""A configuration: its schema, and its text."""

from typing import TYPE_CHECKING

from vaectl.config import schema
from vaectl.config.schema import CHOICES, Checkpoint
from vaectl.data.settings import Data

__all__ = ["CHOICES", "Checkpoint", "Config", "Data"]

if TYPE_CHECKING:
    from vaectl.config.schema import Config
else:

    def __getattr__(name: str) -> object:
        """Return `Config`, as it is now: see `vaectl.config.schema`."""
        return getattr(schema, name)
