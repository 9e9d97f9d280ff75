"""The name of a study that is configured by a file."""

import re
from pathlib import Path

from vaectl.config import documents, reading
from vaectl.runs.names import STUDIES, is_name


def name_of_file(file: Path | None) -> str | None:
    """Return the file's name without its ending: `quick` of configs/compare/quick.yaml.

    The file that a study keeps in its directory has the name of that directory, so that a command
    on it continues the study.

    Returns:
        None without a file, for the file of one experiment, and if no usable name is left.

    Raises:
        ConfigError: the file cannot be read.
    """
    if file is None:
        return None
    if file.name in STUDIES and file.with_name("trials.csv").exists():
        return _usable(file.absolute().parent.name)
    return _usable(file.stem) if reading.study_of(documents.read_mapping(file, {})) else None


def _usable(text: str) -> str | None:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:100]
    return name if is_name(name) else None
