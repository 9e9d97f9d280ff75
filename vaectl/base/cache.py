"""The directory that keeps prepared data and compiled programs from one start to the next."""

import os
from pathlib import Path

import platformdirs


def directory() -> Path:
    """`VAECTL_CACHE_DIR`, or vaectl's folder in the user's cache directory."""
    chosen = os.environ.get("VAECTL_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("vaectl")
