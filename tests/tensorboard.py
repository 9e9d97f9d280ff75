"""What TensorBoard would show of event files, by a reader of its own."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c


def events(file: Path) -> Iterator[Any]:
    """Yield the events of a file, but for one at its end that was being written."""
    content = file.read_bytes()
    at = 0
    while len(content) >= at + 12:
        size, check = struct.unpack_from("<QI", content, at)
        assert check == masked_crc32c(content[at : at + 8]), f"{file}: no record at {at}"
        data, after = content[at + 12 : at + 12 + size], at + 12 + size + 4
        if len(content) < after:
            return
        assert masked_crc32c(data) == struct.unpack("<I", content[after - 4 : after])[0]
        yield Event.FromString(data)
        at = after


def shown(directory: Path) -> dict[str, dict[int, Any]]:
    """Read all files of a run: by tag and step the values that TensorBoard shows.

    No step may stand there twice.
    """
    found: dict[str, dict[int, Any]] = {}
    for file in sorted(directory.glob("*tfevents*")):
        for number, event in enumerate(events(file)):
            assert (event.file_version == "brain.Event:2") == (number == 0), file
            if event.session_log.status == SessionLog.START:
                for steps in found.values():
                    for step in [step for step in steps if step >= event.step]:
                        del steps[step]
            for value in event.summary.value:
                steps = found.setdefault(value.tag, {})
                assert event.step not in steps or not event.step, (file, value.tag, event.step)
                steps[event.step] = value
    return found


def curve(directory: Path, tag: str) -> dict[int, float]:
    """Return a scalar by step."""
    return {step: value.simple_value for step, value in shown(directory).get(tag, {}).items()}
