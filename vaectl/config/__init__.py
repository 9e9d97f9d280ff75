"""The configuration: its schema, and reading it from YAML."""

from typing import TYPE_CHECKING

from vaectl.config import schema
from vaectl.config.schema import CHOICES, Checkpoint
from vaectl.data.settings import Data

__all__ = ["CHOICES", "Checkpoint", "Config", "Data"]

if TYPE_CHECKING:
    from vaectl.config.schema import Config
else:

    def __getattr__(name: str) -> object:
        """Return the current `Config`: see `vaectl.config.schema`."""
        return getattr(schema, name)
