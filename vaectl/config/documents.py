"""YAML documents: reading one with the line of each value, and writing one."""

from __future__ import annotations

import io
import shlex
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarbool import ScalarBoolean

from vaectl.base.errors import ConfigError
from vaectl.base.files import read
from vaectl.base.nearest import did_you_mean_path
from vaectl.base.section import Section
from vaectl.base.terminal import visible
from vaectl.data.sources.base import is_source

_SYNTAX = "a line is KEY: VALUE, keys below another are indented by spaces, and brackets are closed"
SHORT = "a configuration has fewer keys, each once; is this another file?"
"""The hint for a file that is too much for a configuration."""

MOST_BYTES = 2**16
"""The largest file that is read, in bytes: ten times a typical configuration; parsing it takes two
seconds."""
MOST_VALUES = 1000
"""The most values of a file, after aliases are expanded: nested aliases could fill the memory."""

Place = tuple[str | int, ...]
"""A path of keys."""
Origins = dict[Place, str]
"""The origin of each value, "file:line" or an option, by its path of keys."""


def _images(file: Path) -> str:
    """Return a hint if what was given as a configuration names a source of images, else nothing."""
    source = f"--set data.source={shlex.quote(str(file))}"
    return f"name images by {source}" if is_source(str(file)) else ""


def read_mapping(
    file: Path, origins: Origins, below: Place = (), content: bytes | None = None
) -> dict[str, Any]:
    """Read a mapping, and note the line of each key in `origins`, with its path below `below`.

    Raises:
        ConfigError: the file cannot be read, or is not a YAML mapping.
    """
    try:
        text = (read(file, MOST_BYTES) if content is None else content).decode()
    except UnicodeDecodeError:
        hint = _images(file) or "a configuration is YAML text"
        raise ConfigError(f"{file}: not UTF-8 text", hint=hint) from None
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}){did_you_mean_path(file)}",
            hint=_images(file)
            or "give a YAML file; vaectl config show > FILE.yaml writes one to start from",
        ) from None
    try:
        document = _plain(_loaded(text), below, str(file), origins)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}{line}: not valid YAML: {error.problem}", hint=_SYNTAX) from None
    except ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}"
        raise ConfigError(
            f"{file}{line}: not valid YAML: a character that YAML forbids", hint=_SYNTAX
        ) from None
    except RecursionError:
        raise ConfigError(
            f"{file}: nested too deeply, or an alias inside its own anchor", hint=SHORT
        ) from None
    except Exception as error:  # the loader raises other errors for tags and scalars
        raise ConfigError(f"{file}: not valid YAML: {error}", hint=_SYNTAX) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{file}: must be a mapping of keys to values, not {_kind(document)}",
            hint="write lines of KEY: VALUE, as vaectl config show prints them",
        )
    return document


@lru_cache(maxsize=32)
def _loaded(text: str) -> Any:
    """Load YAML with the round-trip loader: it makes plain data only, and keeps line numbers.

    Results are kept, because a command reads some files several times and parsing one takes 20 ms.
    Callers must not change them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it
        return YAML(typ="rt").load(text)


def _plain(node: Any, path: Place, file: str, origins: Origins) -> Any:
    """Turn the loader's types into plain ones, and note the line of each key."""
    if len(origins) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values, with aliases expanded")
    if isinstance(node, CommentedMap):
        plain = {}
        lines = node.lc.data or {}
        for key, value in node.items():
            place = (*path, str(key))
            # a key from an alias has no line of its own: take that of its mapping
            line = lines[key][0] if key in lines else node.lc.line
            origins[place] = f"{file}:{line + 1}"
            plain[str(key)] = _plain(value, place, file, origins)
        return plain
    if isinstance(node, CommentedSeq):
        items = []
        for i, value in enumerate(node):
            origins[*path, i] = f"{file}:{node.lc.line + 1}"
            items.append(_plain(value, (*path, i), file, origins))
        return items
    if isinstance(node, ScalarBoolean):  # not a bool, which cannot be subclassed
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node.value if isinstance(node, TaggedScalar) else node


def parse_value(text: str, origin: str) -> object:
    """Read the value of an option, which is YAML.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        return _plain(_loaded(text), (), "", {})
    except Exception:  # as in read_mapping
        raise ConfigError(
            f"{origin}: the value is not valid YAML",
            hint="quote it for the shell and for YAML, for example 'KEY=\"some text\"'",
        ) from None


def _kind(value: object) -> str:
    names = {str: "a string", list: "a list", bool: "a boolean", int: "a number", float: "a number"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a value")


def dump(config: Section, header: str = "") -> str:
    """Return the whole configuration as YAML, below an optional comment."""
    yaml = YAML()
    yaml.Representer = _Representer
    stream = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)
    comment = "".join(f"# {visible(line)}\n" for line in header.splitlines())
    return comment + stream.getvalue()


class _Representer(RoundTripRepresenter):
    """ruamel.yaml's way of writing values, with two changes."""

    def text(self, text: str) -> Any:
        """Quote text that a terminal would show escaped, so that it can be read back."""
        style = None if text.isprintable() or "\n" in text else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def null(self, _: None) -> Any:
        """Write None as `null`, which ruamel.yaml would leave out."""
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(str, _Representer.text)
_Representer.add_representer(type(None), _Representer.null)
