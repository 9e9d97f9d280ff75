"""Disks that lose their power: a recorded one that is replayed, and a real one on a loop device.

The recorded one needs no privileges. strace records what a command writes; `Disk` replays it, and
knows at every moment what a power cut may leave: what was synced surely, the rest perhaps.
"""

import contextlib
import fcntl
import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from tests import apart

Cut = Literal["nothing else", "all names, no data", "some of it"]
"""What a power cut leaves of what was not synced."""
CUTS: tuple[Cut, ...] = ("nothing else", "all names, no data", "some of it")

_CALLS = (
    "openat,creat,mkdir,mkdirat,write,writev,pwrite64,ftruncate,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,fsync,fdatasync"
)


class Call(NamedTuple):
    """A system call that changed the disk, or made what was changed durable."""

    name: Literal["create", "write", "mkdir", "rename", "remove", "sync"]
    path: str
    """From the recorded directory."""
    content: bytes = b""
    offset: int | None = None
    """Of what is written; None: the end."""
    target: str = ""
    """Of a rename."""


@dataclass
class File:
    """A file: what it holds, and what it held when it was synced last."""

    content: bytes = b""
    synced: bytes = b""


@dataclass
class Directory:
    """A directory: the names in it, and those when it was synced last."""

    names: "dict[str, File | Directory]" = field(default_factory=dict)
    synced: "dict[str, File | Directory]" = field(default_factory=dict)


def record(folder: Path, arguments: Sequence[str]) -> list[Call]:
    """Run the command line in a folder under strace; return what it did to the disk there."""
    if shutil.which("strace") is None:
        pytest.skip("recording what a command writes takes strace")
    log = folder.parent / f"{folder.name}.strace"
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "100000000",
        "-o",
        str(log),
        "-e",
        _CALLS,
    ]
    done = apart.run("-m", "vaectl", *arguments, before=command, cwd=folder)
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("recording what a command writes takes the right to trace it")
    assert done.returncode == 0, done.stderr
    return list(_parsed(log, folder.resolve()))


_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PLACE = re.compile(r"(AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>")


def _parsed(log: Path, root: Path) -> Iterator[Call]:
    """Parse strace's lines; a call that others interrupt counts where it ends."""
    begun: dict[str, str] = {}
    for line in log.read_text().splitlines():
        thread = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
            continue
        if resumed := _RESUMED.match(line):
            line = begun.pop(thread) + resumed[2]
        if (found := _LINE.match(line)) and not found[4].startswith(("-", "?")):
            yield from _call(found[2], found[3], root)


def _call(name: str, arguments: str, root: Path) -> Iterator[Call]:
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
    places = [bytes.fromhex(p.replace("\\x", "")).decode() for _, p in _PLACE.findall(arguments)]

    def inside(place: str, text: bytes = b"") -> str | None:
        path = os.path.normpath(Path(place) / text.decode())
        return os.path.relpath(path, root) if f"{path}/".startswith(f"{root}/") else None

    cwd = str(root)
    if name in ("write", "writev", "pwrite64", "fsync", "fdatasync", "ftruncate"):
        path = inside(places[0])
        if path is None or "(deleted)" in path:
            return
        assert name != "ftruncate", "not replayed"
        if name in ("fsync", "fdatasync"):
            yield Call("sync", path)
        else:
            at = int(arguments.rpartition(",")[2]) if name == "pwrite64" else None
            yield Call("write", path, b"".join(texts), at)
        return
    path = inside(places[0] if places else cwd, texts[0])
    if path is None:
        return
    if name == "openat" and "O_CREAT" in arguments:
        yield Call("create", path, b"" if "O_TRUNC" in arguments else b"kept")
    elif name.startswith("mkdir"):
        yield Call("mkdir", path)
    elif name.startswith("rename"):
        target = inside(places[1] if len(places) > 1 else cwd, texts[1])
        assert target is not None
        yield Call("rename", path, target=target)
    elif name.startswith(("unlink", "rmdir")):
        yield Call("remove", path)


class Disk:
    """What a recorded command had written, call by call."""

    def __init__(self) -> None:
        self.root = Directory()

    def apply(self, call: Call) -> None:
        """Do what a call did."""
        folder, name = self._parent(call.path)
        there = folder.names.get(name)
        match call.name:
            case "create":
                if not isinstance(there, File):
                    folder.names[name] = File()
                elif not call.content:
                    there.content = b""
            case "mkdir":
                folder.names[name] = Directory()
            case "write":
                assert isinstance(there, File), call.path
                at = len(there.content) if call.offset is None else call.offset
                old = there.content.ljust(at, b"\0")
                there.content = old[:at] + call.content + old[at + len(call.content) :]
            case "rename":
                target, new = self._parent(call.target)
                target.names[new] = folder.names.pop(name)
            case "remove":
                del folder.names[name]
            case "sync":
                if isinstance(there, File):
                    there.synced = there.content
                else:
                    synced = self.find(call.path)
                    assert isinstance(synced, Directory), call.path
                    synced.synced = dict(synced.names)

    def find(self, path: str) -> File | Directory | None:
        """What stands at a path now."""
        node: File | Directory | None = self.root
        for part in Path(path).parts:
            node = node.names.get(part) if isinstance(node, Directory) else None
        return node

    def is_durable(self, path: str) -> bool:
        """Whether a file, or a directory and all in it, is synced; not whether its name is."""
        return _is_durable(self.find(path))

    def is_named_durably(self, path: str) -> bool:
        """Whether a power cut leaves the name of what stands at a path."""
        folder, name = self._parent(path)
        return name in folder.names and folder.synced.get(name) is folder.names[name]

    def leave(self, place: Path, cut: Cut, chance: random.Random) -> None:
        """Write what a power cut leaves into a directory."""
        _leave(self.root, place, cut, chance)

    def _parent(self, path: str) -> tuple[Directory, str]:
        folder = self.find(str(Path(path).parent))
        assert isinstance(folder, Directory), path
        return folder, Path(path).name


def _is_durable(node: File | Directory | None) -> bool:
    if isinstance(node, File):
        return node.synced == node.content
    assert node is not None
    return node.synced == node.names and all(map(_is_durable, node.names.values()))


def _leave(folder: Directory, place: Path, cut: Cut, chance: random.Random) -> None:
    place.mkdir(exist_ok=True)
    names = folder.synced if cut == "nothing else" else folder.names
    if cut == "some of it":  # a journal keeps the order: names until some change
        names = chance.choice([folder.synced, folder.names])
    for name, node in names.items():
        if isinstance(node, Directory):
            _leave(node, place / name, cut, chance)
        elif cut == "some of it" and node.synced != node.content:
            # what was synced stays; of the rest a part, or zeros in its place
            synced = node.synced if node.content.startswith(node.synced) else b""
            rest = node.content[len(synced) :]
            part = rest[: chance.randint(0, len(rest))]
            content = chance.choice([node.synced, synced + part, synced + bytes(len(part))])
            (place / name).write_bytes(content)
        else:
            (place / name).write_bytes(node.synced)


_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
_WITHOUT_FLUSHING = 2


class LoopDisk:
    """A file system of its own on a loop device, whose power can be cut."""

    def __init__(self, image: Path, place: Path) -> None:
        self.place = place
        self._image = image

    def cut(self) -> None:
        """Stop the file system where it is: nothing in memory reaches the disk any more."""
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING))
        finally:
            os.close(handle)

    def mount(self) -> None:
        """Mount it, as after a start."""
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def unmount(self) -> None:
        """Unmount it."""
        _run("umount", str(self.place))


@contextlib.contextmanager
def loop_disk(folder: Path, kind: Literal["ext4", "xfs"]) -> Iterator[LoopDisk]:
    """Make a file system on a loop device, mounted in a folder, whose power can be cut."""
    image, place = folder / f"{kind}.img", folder / kind
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 2**20)  # xfs takes no less than 300 MiB
    if os.geteuid() or shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"cutting the power of a disk takes root and mkfs.{kind}")
    _run(f"mkfs.{kind}", "-q", str(image))
    disk = LoopDisk(image, place)
    try:
        disk.mount()
    except subprocess.CalledProcessError:
        pytest.skip(f"cutting the power of a disk takes a loop device and {kind}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)  # noqa: S607


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
