"""Data files that are broken, hostile or no files: refused with a reason, in bounded time and room.

All random edits, of data here and of configurations in test_config.py, ten thousand of each, and
all odd arguments of test_bad_arguments.py:

    VAECTL_EXAMPLES=10000 pytest tests/test_bad_*.py tests/test_config.py -k "changed or any or odd"
"""

import contextlib
import gzip
import io
import os
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_config import ANY
from tests.test_data import _idx, _source, _write_idx
from vaectl import config, data
from vaectl.base import memory
from vaectl.base.errors import DataError
from vaectl.data import cache, idx


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def _arrays() -> dict[str, np.ndarray]:
    source = _source()
    assert source.train.labels is not None
    return {
        "x_train": np.asarray(source.train.images),
        "y_train": source.train.labels,
        "x_test": np.asarray(source.test.images),
    }


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


IDX_NAMES = [name for names in idx.FILES.values() for name in names]
PIECES = [
    *(b"\0\0\x08\3", b"\0\0\x08\1", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"),
    *(b"\x1f\x8b\x08\x08", gzip.compress(b"")[:-1], gzip.compress(bytes(10**6))),
    *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\x93NUMPY\3\0", b"\xff" * 8),
    *(b"'descr': 'O'", b"'<U999999999'", b"'|V0'", b"(10**9,)", b"(999999999999,)", b"(-1, 4, 3)"),
    *(b"(0, 99999999999999999999999)", b"(60L, 4L, 3L)", b"(" * 300, b"[" * 90, b"None", b"\n"),
    *(_header("{'descr': '|u1', 'fortran_order': True, 'shape': (9, 8, 7), }"), b"", b"}", b"'"),
]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "overwrite", "swap"]),
        st.integers(0, 10**4),
        st.sampled_from(PIECES),
        st.integers(1, 255),
    ),
    min_size=1,
    max_size=4,
)
Edits = list[tuple[str, int, bytes, int]]


def _edited(content: bytes, edits: Edits) -> bytes:
    """Edits fall on the first bytes more often than on the rest: there the headers are."""
    for kind, number, piece, bits in edits:
        place = number % (min(len(content), 200 if number % 2 else len(content)) or 1)
        before, after = content[:place], content[place:]
        if kind == "flip":
            content = before + bytes([after[0] ^ bits]) + after[1:] if after else content
        elif kind == "cut":
            content = before
        elif kind == "insert":
            content = before + piece + after
        elif kind == "overwrite":
            content = before + piece + after[len(piece) :]
        else:
            content = after + before
    return content


def _loads_or_is_refused(source: str) -> None:
    with contextlib.suppress(DataError):
        assert len(data.load(config.Data(source=source)).train.images)


@ANY
@given(name=st.sampled_from(IDX_NAMES), edits=EDITS, packed=st.sampled_from(["", "in", "out"]))
def test_idx_files_changed_anywhere_load_or_are_refused(
    name: str, edits: Edits, packed: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`in`: the content of an intact gzip file is changed; `out`: the gzip file is."""
    folder = tmp_path_factory.getbasetemp() / "idx"
    _write_idx(folder, _source())
    (folder / f"{name}.gz").unlink(missing_ok=True)
    content = (folder / name).read_bytes()
    if packed == "out":
        content = _edited(gzip.compress(content, mtime=0), edits)
    else:
        content = _edited(content, edits)
        content = gzip.compress(content) if packed else content
    (folder / name).unlink()
    changed = folder / (f"{name}.gz" if packed else name)
    changed.write_bytes(content)
    _loads_or_is_refused(f"idx:{folder}")


@ANY
@given(name=st.sampled_from([*_arrays(), ""]), edits=EDITS, deflated=st.booleans())
def test_archives_changed_anywhere_load_or_are_refused(
    name: str, edits: Edits, deflated: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A member is changed before it is packed; without a name, the archive is."""
    members = {key: _npy(array) for key, array in _arrays().items()}
    if name:
        members[name] = _edited(members[name], edits)
    content = _zip(members, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED)
    file = tmp_path_factory.getbasetemp() / "changed.npz"
    file.write_bytes(content if name else _edited(content, edits))
    _loads_or_is_refused(f"npz:{file}")


@ANY
@given(name=st.sampled_from([*_arrays()]), edits=EDITS)
def test_arrays_on_disk_changed_anywhere_load_or_are_refused(
    name: str, edits: Edits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "arrays"
    folder.mkdir(exist_ok=True)
    for key, array in _arrays().items():
        content = _npy(array)
        (folder / f"{key}.npy").write_bytes(_edited(content, edits) if key == name else content)
    _loads_or_is_refused(f"npy:{folder}")


@ANY
@given(edits=EDITS)
def test_a_cached_copy_changed_anywhere_is_right_or_made_anew(
    edits: Edits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAECTL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "changed-cache"))
        cache.cached("x", _source)
        file = cache.path("x")
        file.write_bytes(_edited(file.read_bytes(), edits))
        assert cache.cached("x", _source).fingerprint() == _source().fingerprint()


ODD: dict[str, Callable[[Path], object]] = {
    "an empty file": Path.touch,
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_is_no_file_is_refused_at_once(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"x\.npz: "):
        data.published(f"npz:{tmp_path / 'x.npz'}")
    make(tmp_path / "x_train.npy")
    np.save(tmp_path / "x_test.npy", _arrays()["x_test"])
    with pytest.raises(DataError, match=r"x_train\.npy: "):
        data.published(f"npy:{tmp_path}")
    for name in (IDX_NAMES[0], f"{IDX_NAMES[0]}.gz"):
        folder = tmp_path / f"in-{name}"
        _write_idx(folder, _source())
        (folder / IDX_NAMES[0]).unlink()
        make(folder / name)
        with pytest.raises(DataError, match=f"{name}: "):
            data.published(f"idx:{folder}")
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    cache.path("x").parent.mkdir(parents=True)
    make(cache.path("x"))
    if cache.path("x").is_dir():
        with pytest.raises(DataError, match="the cache cannot be written: Is a directory"):
            cache.cached("x", _source)
    else:
        assert cache.cached("x", _source).fingerprint() == _source().fingerprint()
        assert cache.cached("x", lambda: pytest.fail("not kept"))
    assert Path("/dev/zero").is_char_device()


@pytest.mark.parametrize("scheme", ["idx", "npy", "npz"])
@pytest.mark.parametrize("path", ["a" * 300, "a/" * 3000, "~nobody-here", "\udcff", "🎲 $x$ <b>"])
def test_paths_that_name_nothing_are_refused(scheme: str, path: str) -> None:
    with pytest.raises(DataError, match="cannot be read: "):
        data.published(f"{scheme}:{path}")


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Python and NumPy take less than a megabyte here."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total", lambda: 10**7)
    zeros = bytes(10**8)
    _write_idx(tmp_path, _source(), zipped=True)
    images = tmp_path / f"{IDX_NAMES[0]}.gz"
    archive = tmp_path / "x.npz"
    for content, message in (
        (_idx(np.zeros((9, 4, 3))) + zeros, "too long: at least 109 bytes"),
        (b"\0\0\x08\3" + b"\0\x0f\xff\xff" * 3 + zeros, "needs about"),
    ):
        images.write_bytes(gzip.compress(content, 1))
        with _little_memory(), pytest.raises(DataError, match=message):
            idx.read_folder(tmp_path)
    archive.write_bytes(_zip({"x_train": _npy(np.frombuffer(zeros, np.uint8)), "x_test": b""}))
    with _little_memory(), pytest.raises(DataError, match=r"needs about 381\.5 MiB of memory"):
        data.published(f"npz:{archive}")


@pytest.mark.parametrize("count", [10**7, 10**12, 10**30])
def test_more_images_than_a_file_holds_are_refused_and_fill_no_memory(
    count: int, tmp_path: Path
) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 28, 28), }}\n"
    file = tmp_path / "x.npz"
    file.write_bytes(_zip({"x_train": _header(header) + bytes(9), "x_test": b""}))
    before = memory.peak()
    with pytest.raises(DataError, match=r"x\.npz: .*x_train: "):
        data.published(f"npz:{file}")
    assert memory.peak() - before < 10**7


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_was_damaged_is_refused_though_it_says_what_could_be(
    method: int, tmp_path: Path
) -> None:
    """The array ends before the file does, so that NumPy alone would not check its sum."""
    good = _npy(_arrays()["x_train"])
    fewer = good.replace(b"(60, 4, 3)", b"(20, 4, 3)")
    assert fewer != good
    sums = (zlib.crc32(fewer).to_bytes(4, "little"), zlib.crc32(good).to_bytes(4, "little"))
    file = tmp_path / "x.npz"
    file.write_bytes(_zip({"x_train": fewer}, method).replace(*sums))
    with pytest.raises(DataError, match=r"x_train\.npy is damaged"):
        data.published(f"npz:{file}")


class _Trap:
    """An object whose pickle makes a directory where it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


def test_objects_in_an_archive_are_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    trap = np.array([_Trap(made)], dtype=object)
    content = _zip({"x_train": _npy(trap), "x_test": _npy(trap), "fingerprint": _npy(trap)})
    file = tmp_path / "x.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz: .*x_train: Object arrays"):
        data.published(f"npz:{file}")
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    cache.cached("x", _source)
    cache.path("x").write_bytes(content)
    assert cache.cached("x", _source).fingerprint() == _source().fingerprint()
    assert not made.exists()


def test_a_cache_of_another_format_is_left_alone_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
    cache.cached("x", _source)
    old = zlib.crc32(cache.path("x").read_bytes())
    for version in (cache.FORMAT_VERSION - 1, cache.FORMAT_VERSION + 1):
        with monkeypatch.context() as patch:
            patch.setattr(cache, "FORMAT_VERSION", version)
            assert cache.cached("x", lambda: _source(30)).fingerprint() == _source(30).fingerprint()
    assert zlib.crc32(cache.path("x").read_bytes()) == old
    assert cache.cached("x", lambda: pytest.fail("built")).fingerprint() == _source().fingerprint()
