"""The cache directory, which keeps prepared data and compiled programs between commands."""

import os
from pathlib import Path

import platformdirs


def directory() -> Path:
    """Return `VAECTL_CACHE_DIR`, or vaectl's folder in the user's cache directory."""
    chosen = os.environ.get("VAECTL_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("vaectl")
