"""TFDS without a network: a server on this machine stands in for the addresses it registers."""

import gzip
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pooch.core
import pytest

from tests.test_data import _idx, _source
from vaectl import data
from vaectl.base.cache import directory
from vaectl.base.errors import DataError
from vaectl.base.terminal import silent
from vaectl.data import cache, idx
from vaectl.data.arrays import divide
from vaectl.data.description import describe
from vaectl.data.settings import Data
from vaectl.data.sources import tfds
from vaectl.data.sources.base import Source
from vaectl.data.stored import Stored


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


FEATURES = {"label": SimpleNamespace(names=["shirt", "shoe"])}
"""What TFDS says of the set that is served."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of IDX files, served; `tfds:mnist` is registered there. Yields the directory."""
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Silent, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    infos = {}
    for split, names in idx.FILES.items():
        part = getattr(_source(), split)
        for name, array in zip(names, (part.images, part.labels), strict=True):
            content = gzip.compress(_idx(array))
            (folder / f"{name}.gz").write_bytes(content)
            infos[f"http://127.0.0.1:{server.server_port}/{name}.gz"] = SimpleNamespace(
                checksum=hashlib.sha256(content).hexdigest(),
                size=len(content),
                filename=f"{name}.gz",
            )
    builder = SimpleNamespace(url_infos=infos, info=SimpleNamespace(features=FEATURES))
    monkeypatch.setattr(tfds, "_builder", lambda name: builder)  # noqa: ARG005
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_published_idx_files_are_fetched_checked_parsed_and_cached(served: Path) -> None:
    assert not tfds.is_ready("mnist")
    assert data.published("tfds:mnist").fingerprint() == _source().fingerprint()
    assert tfds.is_ready("mnist")
    for file in served.iterdir():
        file.unlink()  # from now on the cache must do
    cached = data.published("tfds:mnist")
    assert cached.fingerprint() == _source().fingerprint()
    assert cached.classes == ("shirt", "shoe")
    small = Data(source="tfds:mnist", train_size=2, validation_size=1, test_size=2)
    assert data.load(small).class_names == ("shirt", "shoe")


def test_data_sets_with_the_same_file_names_keep_apart(served: Path) -> None:
    assert served
    data.published("tfds:mnist")
    data.published("tfds:kmnist")
    folders = sorted(path.name for path in (directory() / "downloads").iterdir())
    assert folders == ["kmnist", "mnist"]


def test_a_file_of_another_checksum_is_refused_and_not_kept(served: Path) -> None:
    file = served / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DataError, match="its SHA-256 differs"):
        data.published("tfds:mnist")
    assert not list((directory() / "downloads").rglob("t10k-labels*"))


PREPARE = """
import json, sys
from types import SimpleNamespace
from vaectl import data
from vaectl.data.sources import tfds

infos = {url: SimpleNamespace(**info) for url, info in json.loads(sys.argv[1]).items()}
info = SimpleNamespace(features={})
tfds._builder = lambda name: SimpleNamespace(url_infos=infos, info=info)
print("ready", flush=True)
sys.stdin.readline()
print(data.published("tfds:mnist").fingerprint())
"""


def test_processes_that_prepare_at_once_leave_one_whole_cache(served: Path) -> None:
    assert served
    infos = {url: vars(info) for url, info in tfds._builder("mnist").url_infos.items()}
    command = [sys.executable, "-c", PREPARE, json.dumps(infos)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # only now, so that they start together
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60)[0] == f"{_source().fingerprint()}\n"
        assert process.returncode == 0
    left = [path.name for path in directory().rglob("*") if path.is_file()]
    assert sorted(left) == sorted(
        [cache.path(tfds.idx_key("mnist")).name, *(path.name for path in served.iterdir())]
    )
    for file in served.iterdir():
        file.unlink()
    assert data.published("tfds:mnist").fingerprint() == _source().fingerprint()


def test_files_are_private_while_they_are_written(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served
    modes: set[int] = set()

    def watched(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Any, **more: Any) -> object:
            # no file of the cache is there yet but those that are being written
            files = [path for path in directory().rglob("*") if path.is_file()]
            modes.update(path.stat().st_mode & 0o777 for path in files)
            return function(*arguments, **more)

        return call

    monkeypatch.setattr(np, "savez", watched(np.savez))
    monkeypatch.setattr(pooch.core, "hash_matches", watched(pooch.core.hash_matches))
    old = os.umask(0)
    try:
        data.published("tfds:mnist")
    finally:
        os.umask(old)
    assert modes == {0o600}


def test_a_missing_file_says_so_with_what_to_do_instead(served: Path) -> None:
    (served / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="cannot be fetched: 404") as error:
        data.published("tfds:mnist")
    assert "digits-5k" in error.value.hint


def test_a_server_that_is_not_there_is_answered_within_seconds(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served
    info = SimpleNamespace(checksum="0" * 64, size=1, filename="a.gz")
    builder = SimpleNamespace(url_infos={"http://127.0.0.1:1/a.gz": info})
    monkeypatch.setattr(tfds, "_builder", lambda name: builder)  # noqa: ARG005
    start = time.monotonic()
    with pytest.raises(DataError, match="the connection was refused"):
        data.published("tfds:mnist")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_set", "tensorflow-datasets has no data set of this name"),
        ("tf_flowers", r"images of shape \(None, None, 3\)"),
        ("imdb_reviews", "no images"),
        ("../etc", "tfds:../etc"),
    ],
)
def test_data_sets_that_do_not_fit_are_refused_before_any_download(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.published(f"tfds:{name}")


def test_the_catalogue_lists_every_form_of_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
    entries = [entry for source in Source.known.values() for entry in source.entries()]
    states = {entry.source: entry.state for entry in entries}
    assert states["digits-5k"] == "ready: embedded"
    assert states["tfds:mnist"] == "downloads 12 MB once"
    assert {"idx:DIR", "images:DIR", "npz:FILE", "tfds:NAME"} <= set(states)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as TFDS prepares it: `emnist/balanced`, with 30 and 6 images of bars.

    Image i of a split has row i % 28 filled with 0, 9, 18, ... and the label i % 5. Made by
    tfds.dataset_builders.store_as_tfds_dataset(..., file_format="array_record").
    """
    with tarfile.open(Path(__file__).with_name("prepared-emnist.tar.gz")) as archive:
        archive.extractall(tmp_path / "tfds", filter="data")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "tfds"


def test_prepared_data_sets_are_read_without_tensorflow(prepared: Path) -> None:
    assert prepared.is_dir()
    source = data.published("tfds:emnist/balanced")
    assert "tensorflow" not in sys.modules
    assert (len(source.train.images), len(source.test.images)) == (30, 6)
    assert source.train.labels is not None
    for image, label in zip(np.asarray(source.train.images), source.train.labels, strict=True):
        (row,) = np.flatnonzero(image.any(axis=1)) if image.any() else (0,)
        assert np.array_equal(image[row], 9 * np.arange(28))
        assert label in {number % 5 for number in range(30) if number % 28 == row}


def _with_splits(prepared: Path, **names: str) -> None:
    """Make a prepared data set have other splits, each with the records of one of its own."""
    (info,) = prepared.rglob("dataset_info.json")
    told = json.loads(info.read_text())
    known = {split["name"]: split for split in told["splits"]}
    told["splits"] = [{**known[of], "name": name} for name, of in names.items()]
    info.write_text(json.dumps(told))
    for file in [*prepared.rglob("*array_record*")]:
        content = file.read_bytes()
        file.unlink()
        for name, of in names.items():
            if f"-{of}." in file.name:
                file.with_name(file.name.replace(f"-{of}.", f"-{name}.")).write_bytes(content)


def test_prepared_data_sets_without_a_test_split_are_divided(prepared: Path) -> None:
    whole = data.published("tfds:emnist/balanced").train
    shutil.rmtree(directory())
    _with_splits(prepared, train="train", validation="test")
    for most in (None, None, 1000):  # prepared, cached, and on disk
        found = data.published("tfds:emnist/balanced", most)
        assert found.fingerprint() == divide("x", whole).fingerprint()
        assert "not used: validation" in found.notes
        assert any("no test split: 4 of 30 images" in note for note in found.notes)


def test_other_splits_of_prepared_data_sets_are_noted(prepared: Path) -> None:
    """They do not change what runs know their data by."""
    before = data.published("tfds:emnist/balanced").fingerprint()
    shutil.rmtree(directory())
    _with_splits(prepared, train="train", test="test", extra="test")
    found = data.published("tfds:emnist/balanced")
    assert found.fingerprint() == before
    assert "not used: extra" in found.notes


def test_prepared_data_sets_without_training_images_are_refused(prepared: Path) -> None:
    _with_splits(prepared, test="test")
    with pytest.raises(DataError, match="has the splits test; vaectl wants train"):
        data.published("tfds:emnist/balanced")


def test_prepared_data_sets_that_do_not_fit_are_decoded_once_into_files(prepared: Path) -> None:
    held = data.published("tfds:emnist/balanced")
    first = data.published("tfds:emnist/balanced", 1000)
    (labels,) = (directory() / "data").glob("*-train-labels-v1.npy")
    labels.unlink()
    again = data.published("tfds:emnist/balanced", 1000)  # interrupted between the two
    for file in prepared.rglob("*array_record*"):
        file.unlink()
    for found in (first, again):
        assert isinstance(found.train.images, Stored)
        assert found.fingerprint() == held.fingerprint()


@pytest.mark.parametrize(("first", "named"), [("letter 0", True), ("0", False)])
def test_classes_of_prepared_data_sets_have_their_names(
    first: str, named: bool, prepared: Path
) -> None:
    """Also those of a copy that was cached without names."""
    assert data.published("tfds:emnist/balanced").classes == ()
    names = [first, *map(str, range(1, 47))]
    (features,) = prepared.rglob("features.json")
    (features.parent / "label.labels.txt").write_text("\n".join(names))
    for most in (None, 1000):  # in memory, and on disk
        found = data.published("tfds:emnist/balanced", most)
        assert found.classes == (tuple(names) if named else ())
        assert f" {first} (" in describe("x", found, silent)[-1]


def test_labels_that_are_no_classes_are_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of `lfw` are names of people."""
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), np.uint8)
    records = [{"image": image, "label": b"George"} for image in pixels]
    image, label = (SimpleNamespace(shape=shape, np_dtype=object) for shape in ((4, 4, 1), ()))
    builder = SimpleNamespace(
        info=SimpleNamespace(
            full_name="faces/1.0.0",
            features={"image": image, "label": label},
            splits={"train": records},
        ),
        is_prepared=lambda: True,
        as_data_source=lambda _: records,
    )
    monkeypatch.setattr(tfds, "_builder", lambda name: builder)  # noqa: ARG005
    for most in (None, None, 10):  # prepared, cached, and on disk
        found = data.published("tfds:faces", most)
        assert found.train.labels is None
        assert "not used: label, which is not the number of a class" in found.notes


def test_what_was_read_is_cached(prepared: Path) -> None:
    first = data.published("tfds:emnist/balanced").fingerprint()
    for file in prepared.rglob("*array_record*"):
        file.unlink()
    assert data.published("tfds:emnist/balanced").fingerprint() == first


def test_without_tensorflow_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    with pytest.raises(DataError, match="not prepared on this machine") as error:
        data.published("tfds:emnist/balanced")
    assert "pip install 'vaectl[tfds]'" in error.value.hint
    assert "vaectl data prepare tfds:emnist/balanced" in error.value.hint
