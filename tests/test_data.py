import dataclasses
import fcntl
import gzip
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import MNIST, needs_mnist
from vaectl import config, data
from vaectl.base.errors import ConfigError, DataError
from vaectl.base.terminal import silent
from vaectl.config import reading
from vaectl.data import arrays, cache, idx, layout, splits
from vaectl.data.binarization import binarize, draw, meaning
from vaectl.data.reading import Reading
from vaectl.data.settings import Data
from vaectl.data.sources.base import Source, parse
from vaectl.studies import identity


def _source(train: int = 60, test: int = 10) -> arrays.Published:
    rng = np.random.default_rng(0)

    def images(count: int) -> arrays.Images:
        pixels = rng.integers(0, 256, size=(count, 4, 3)).astype(np.uint8)
        return arrays.Images(pixels, (np.arange(count) % 7).astype(np.int32))

    return arrays.Published(images(train), images(test))


def _idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def _savez(path: Path, **arrays_: Any) -> Path:
    np.savez(path, allow_pickle=True, **arrays_)
    return path


def _npz(path: Path, **asked: Any) -> arrays.Published:
    return data.published(f"npz:{path}", reading=Reading(**asked))


def _write_idx(directory: Path, source: arrays.Published, *, zipped: bool = False) -> None:
    directory.mkdir(exist_ok=True)
    for split, (images, labels) in idx.FILES.items():
        part = getattr(source, split)
        for name, array in ((images, part.images), (labels, part.labels)):
            content = _idx(array)
            if zipped:
                (directory / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (directory / name).write_bytes(content)


class TestDigits:
    """The embedded digits."""

    def test_sizes_are_4000_500_500_with_every_class_equally_often(self) -> None:
        dataset = data.load(config.Data())
        for split, per_class in (("train", 400), ("validation", 50), ("test", 50)):
            part = getattr(dataset, split)
            assert part.images.shape == (10 * per_class, 28, 28, 1)
            assert part.flat.shape == (10 * per_class, 784)
            assert part.labels is not None
            assert np.bincount(part.labels).tolist() == [per_class] * 10
        assert dataset.image_shape == (28, 28, 1)

    def test_splits_are_stratified_at_other_sizes_too(self) -> None:
        dataset = data.load(config.Data(train_size=100, validation_size=50, test_size=20))
        for part in (dataset.train, dataset.validation, dataset.test):
            assert part.labels is not None
            assert len(set(np.bincount(part.labels))) == 1

    def test_no_digit_stands_in_two_splits(self) -> None:
        source = data.published("digits-5k")
        pixels = np.concatenate([source.train.images, source.test.images])
        assert len(np.unique(pixels.reshape(5000, -1), axis=0)) == 5000

    def test_the_file_is_below_a_megabyte(self) -> None:
        file = Path(data.__file__).parent / "sources" / "digits" / "digits.npz"
        assert file.stat().st_size < 1_000_000

    @needs_mnist
    def test_all_are_among_the_first_50000_images_of_mnist(self) -> None:
        assert MNIST is not None
        mnist = idx.read_folder(Path(MNIST))
        known = {image.tobytes() for image in np.asarray(mnist.train.images[:50_000])}
        digits = data.published("digits-5k")
        for part in (digits.train, digits.test):
            assert all(image.tobytes() in known for image in np.asarray(part.images))


class TestSplits:
    """Training, validation and test."""

    def test_the_last_sixth_of_train_validates(self) -> None:
        source = _source(60)
        dataset = splits.split(source, config.Data(binarization="none"))
        flat = source.train.images.reshape(60, -1)
        assert np.array_equal(dataset.train.flat, flat[:50])
        assert np.array_equal(dataset.validation.flat, flat[50:])
        assert np.array_equal(dataset.test.flat, source.test.images.reshape(10, -1))
        assert np.array_equal(np.asarray(dataset.train.images)[..., 0], source.train.images[:50])
        assert dataset.image_shape == (4, 3, 1)
        assert dataset.fingerprint == source.fingerprint()
        assert source.train.labels is not None
        assert dataset.validation.labels is not None
        assert np.array_equal(dataset.validation.labels, source.train.labels[50:])

    def test_sizes_count_from_the_ends_that_they_say(self) -> None:
        source = _source(60)
        settings = config.Data(binarization="none", train_size=5, validation_size=3, test_size=2)
        dataset = splits.split(source, settings)
        flat = source.train.images.reshape(60, -1)
        assert np.array_equal(dataset.train.flat, flat[:5])
        assert np.array_equal(dataset.validation.flat, flat[57:])
        assert len(dataset.test.images) == 2

    @pytest.mark.parametrize(
        ("count", "own", "sizes", "expected"),
        [
            (2, None, {}, (1, 1)),  # the fewest that can be split
            (11, None, {}, (10, 1)),
            (12, None, {}, (10, 2)),
            (60, 7, {}, (53, 7)),  # where the authors of a data set say so
            (60, 7, {"validation_size": 3}, (57, 3)),
            (60, None, {"train_size": 57, "validation_size": 3}, (57, 3)),
        ],
    )
    def test_what_is_not_asked_for_follows_from_the_source(
        self, count: int, own: int | None, sizes: dict[str, int], expected: tuple[int, int]
    ) -> None:
        source = dataclasses.replace(_source(count), validation_size=own, notes=("a note",))
        settings = config.Data.model_validate({"binarization": "none", **sizes})
        dataset = splits.split(source, settings)
        assert (len(dataset.train.images), len(dataset.validation.images)) == expected
        assert len(dataset.test.images) == 10
        assert dataset.notes == ("a note",)

    def test_each_split_is_binarized_as_it_should_be(self) -> None:
        source = _source(60)
        dataset = splits.split(source, config.Data(binarization="stochastic"))
        assert np.array_equal(np.asarray(dataset.train.images)[..., 0], source.train.images[:50])
        for part, grey in (
            ("validation", source.train.images[50:]),
            ("test", source.test.images),
        ):
            drawn = getattr(dataset, part).images[..., 0]
            assert np.array_equal(drawn, np.asarray(draw(grey, part)))  # type: ignore[arg-type]

    def test_unlabelled_images_stay_so(self) -> None:
        source = _source(60)
        bare = dataclasses.replace(source, train=source.train._replace(labels=None))
        dataset = splits.split(bare, config.Data())
        assert dataset.train.labels is None
        assert dataset.validation.labels is None
        assert dataset.test.labels is not None

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ({"train_size": 58, "validation_size": 3}, "60 training images: 58 to train and 3"),
            ({"validation_size": 60}, "1 to train and 60 to validate"),
            ({"test_size": 11}, "has 10 test images, not 11"),
        ],
    )
    def test_more_images_than_there_are_is_an_error(
        self, sizes: dict[str, int], message: str
    ) -> None:
        with pytest.raises(DataError, match=message) as error:
            splits.split(_source(60), config.Data.model_validate(sizes))
        for key in sizes:
            assert f"data.{key}" in error.value.hint

    def test_the_fingerprint_follows_pixels_and_labels(self) -> None:
        source = _source()
        assert source.fingerprint() == _source().fingerprint()
        pixels = np.array(source.train.images)
        pixels[0, 0, 0] ^= 1
        changed = arrays.Published(source.train._replace(images=pixels), source.test)
        unlabelled = arrays.Published(source.train._replace(labels=None), source.test)
        assert len({s.fingerprint() for s in (source, changed, unlabelled)}) == 3


class TestBinarization:
    """From grey levels to x."""

    @pytest.mark.parametrize(
        ("threshold", "lowest"), [(0.5, 128), (0.2, 51), (1.0, 255), (1e-6, 1)]
    )
    def test_threshold_keeps_pixels_of_at_least_that_intensity(
        self, threshold: float, lowest: int
    ) -> None:
        grey = np.arange(256, dtype=np.uint8)
        binary = binarize(grey, config.Data(threshold=threshold), "train")
        assert binary.dtype == np.uint8
        assert np.array_equal(binary, np.where(grey >= lowest, 255, 0))

    def test_stochastic_draws_have_the_mean_of_the_pixels_and_are_fixed(self) -> None:
        settings = config.Data(binarization="stochastic")
        grey = np.full((2000, 8), 51, np.uint8)
        validation, test = (binarize(grey, settings, name) for name in ("validation", "test"))
        assert set(np.unique(validation)) == {0, 255}
        assert abs(np.mean(validation) / 255 - 0.2) < 0.01
        assert np.array_equal(validation, binarize(grey, settings, "validation"))
        assert not np.array_equal(validation, test)
        assert np.array_equal(validation[:7], binarize(grey[:7], settings, "validation"))

    def test_black_is_never_drawn_white_and_white_always(self) -> None:
        grey = np.repeat(np.array([0, 255], np.uint8), 5000)
        drawn = binarize(grey[None], config.Data(binarization="stochastic"), "test")
        assert drawn.dtype == np.uint8
        assert np.array_equal(drawn[0], grey)

    def test_every_binarization_says_what_x_is(self) -> None:
        said = {
            name: meaning(config.Data.model_validate({"binarization": name, "threshold": 0.25}))
            for name in ("threshold", "stochastic", "static", "none")
        }
        assert "0.25" in said["threshold"]
        assert "draws" in said["stochastic"]
        assert "one draw" in said["static"]
        assert "probabilities" in said["none"]

    def test_draws_stay_what_they_were(self) -> None:
        """Numbers that were published stand on these very images."""
        dataset = data.load(config.Data(binarization="stochastic"))
        assert [
            zlib.crc32(np.asarray(part.images).tobytes())
            for part in (dataset.validation, dataset.test)
        ] == [1125626138, 4166266925]

    def test_static_draws_are_made_once_for_training_too(self) -> None:
        grey = np.full((2000, 8), 51, np.uint8)
        once, anew = (config.Data(binarization=name) for name in ("static", "stochastic"))
        train, validation = (binarize(grey, once, name) for name in ("train", "validation"))
        assert set(np.unique(train)) == {0, 255}
        assert abs(np.mean(train) / 255 - 0.2) < 0.01
        assert not np.array_equal(train, validation)
        assert np.array_equal(validation, binarize(grey, anew, "validation"))

    def test_stochastic_training_images_and_none_stay_grey(self) -> None:
        grey = np.arange(256, dtype=np.uint8)
        for settings in (config.Data(binarization="stochastic"), config.Data(binarization="none")):
            assert np.array_equal(binarize(grey, settings, "train"), grey)


class TestIdx:
    """IDX files."""

    @pytest.mark.parametrize("zipped", [False, True])
    def test_files_read_back_plain_or_zipped(self, zipped: bool, tmp_path: Path) -> None:
        _write_idx(tmp_path / "my digits", _source(), zipped=zipped)
        read = data.published(f"idx:{tmp_path / 'my digits'}")
        assert read.fingerprint() == _source().fingerprint()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not an IDX file"),
            (b"\x89PNG", "not an IDX file"),
            (_idx(np.zeros((2, 2, 2)))[:-1], "truncated: 7 bytes of data, .* 2x2x2 = 8"),
            (_idx(np.zeros((2, 2, 2)))[:9], "truncated in its header"),
            (_idx(np.zeros((2, 2, 2))) + b"x", "too long: at least 9 bytes"),
            (_idx(np.zeros((2, 2))), "2 dimensions instead of 3"),
            (b"\0\0\x0d\3" + bytes(12), "type 0x0d, not unsigned bytes"),
            (b"\0\0\x08\3" + b"\xff" * 12, "needs about .* TiB of memory"),
        ],
    )
    def test_broken_files_are_refused_with_the_reason(
        self, content: bytes, message: str, tmp_path: Path
    ) -> None:
        _write_idx(tmp_path, _source())
        (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(DataError, match=f"train-images-idx3-ubyte: .*{message}"):
            idx.read_folder(tmp_path)

    def test_images_of_two_sizes_are_refused(self, tmp_path: Path) -> None:
        _write_idx(tmp_path, _source())
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(_idx(np.zeros((10, 5, 3))))
        with pytest.raises(DataError, match=r"shape \(4, 3, 1\), its test images \(5, 3, 1\)"):
            data.published(f"idx:{tmp_path}")

    def test_a_broken_gzip_file_is_refused(self, tmp_path: Path) -> None:
        _write_idx(tmp_path, _source(), zipped=True)
        file = tmp_path / "t10k-images-idx3-ubyte.gz"
        for content in (file.read_bytes()[:-20], b"no gzip", b""):
            file.write_bytes(content)
            with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz"):
                idx.read_folder(tmp_path)

    def test_missing_files_and_unequal_counts_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere: cannot be read: No such file or directory"):
            idx.read_folder(tmp_path / "nowhere")
        _write_idx(tmp_path, _source())
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(np.zeros(59)))
        with pytest.raises(DataError, match=r"60 images in .* but 59 labels"):
            idx.read_folder(tmp_path)
        (tmp_path / "train-images-idx3-ubyte").unlink()
        with pytest.raises(DataError, match=r"neither train-images.* nor train-images.*\.gz"):
            idx.read_folder(tmp_path)

    @pytest.mark.parametrize("missing", [("train",), ("test",), ("train", "test")])
    def test_labels_may_miss_and_those_that_are_there_must_be_whole(
        self, missing: tuple[str, ...], tmp_path: Path
    ) -> None:
        _write_idx(tmp_path, _source())
        for split in missing:
            (tmp_path / idx.FILES[split][1]).unlink()
        read = data.published(f"idx:{tmp_path}")
        for split in ("train", "test"):
            part, expected = getattr(read, split), getattr(_source(), split)
            assert np.array_equal(part.images, expected.images)
            assert (part.labels is None) == (split in missing)
        for split in {"train", "test"} - {*missing}:
            (tmp_path / idx.FILES[split][1]).write_bytes(b"")
            with pytest.raises(DataError, match=rf"{idx.FILES[split][1]}: not an IDX file"):
                idx.read_folder(tmp_path)


class TestNpz:
    """NumPy archives."""

    def _save(self, tmp_path: Path, **changes: np.ndarray | None) -> Path:
        source = _source()
        values = {
            "x_train": source.train.images,
            "y_train": source.train.labels,
            "x_test": source.test.images,
            "y_test": source.test.labels,
            **changes,
        }
        file = tmp_path / "images.npz"
        kept = {name: array for name, array in values.items() if array is not None}
        np.savez(file, allow_pickle=True, **kept)
        return file

    def test_archives_read_back(self, tmp_path: Path) -> None:
        file = self._save(tmp_path)
        assert data.published(f"npz:{file}").fingerprint() == _source().fingerprint()

    def test_labels_may_miss_and_one_channel_may_have_an_axis(self, tmp_path: Path) -> None:
        file = self._save(
            tmp_path, y_train=None, y_test=None, x_test=np.asarray(_source().test.images)[..., None]
        )
        read = _npz(file)
        assert read.train.labels is None
        assert np.array_equal(read.test.images, _source().test.images)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"x_train": None}, "no array .* training images; there are x_test, y_test, y_train"),
            ({"x_train": np.zeros((60, 12, 3, 3, 1), np.uint8)}, r"the shape \(60, 12, 3, 3, 1\)"),
            ({"x_train": np.zeros((0, 4, 3), np.uint8)}, r"shape \(0, 4, 3\)"),
            (
                {"x_test": np.zeros((10, 5, 3), np.uint8)},
                r"\(4, 3, 1\), its test images \(5, 3, 1\)",
            ),
            ({"y_train": np.zeros(59, np.int64)}, "y_train must hold one label for each of the 60"),
            ({"y_test": np.zeros((10, 3))}, r"y_test must hold one label .* shape \(10, 3\)"),
            ({"y_test": np.full(10, 0.5)}, r"y_test: 0\.5 at place 0 is not the number"),
            ({"y_test": np.full(10, np.nan)}, "y_test: nan at place 0 is not the number"),
            ({"y_train": np.full(60, 2**31)}, "y_train: 2147483648 at place 0 is not the"),
            ({"y_train": np.full(60, "cat")}, "y_train, .*y_test: text in one split, and numbers"),
            ({"x_train": np.array([{"a": 1}], dtype=object)}, "not a readable NumPy archive"),
            (
                {"images": np.zeros((3, 4, 3)), "x_train": None, "img": np.ones((3, 4, 3))},
                "images and img may each be its images",
            ),
        ],
    )
    def test_wrong_arrays_are_refused_with_the_reason(
        self, changes: dict[str, np.ndarray | None], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=message):
            _npz(self._save(tmp_path, **changes))

    @pytest.mark.parametrize(
        "names",
        [
            ("x_train", "y_train", "x_test", "y_test"),
            ("X_train", "Y_train", "X_test", "Y_test"),
            ("train_images", "train_labels", "test_images", "test_labels"),
            ("trainX", "trainy", "testX", "testy"),
            ("images_train", "labels.train", "images_test", "labels.test"),
            ("train", "targets_train", "test", "targets_test"),
            ("images", "labels", "test_images", "test_labels"),
        ],
    )
    def test_arrays_are_found_by_the_names_that_people_use(
        self, names: tuple[str, ...], tmp_path: Path
    ) -> None:
        train, test = _source().train, _source().test
        values = (train.images, train.labels, test.images, test.labels)
        _savez(tmp_path / "a.npz", **dict(zip(names, values, strict=True)), more=np.zeros(3))
        found = _npz(tmp_path / "a.npz")
        assert found.fingerprint() == _source().fingerprint()
        assert found.notes == ("not used: more",)

    @pytest.mark.parametrize(
        "names",
        [
            ("images", "labels"),
            ("X", "y"),
            ("data", "target"),
            ("arr_0", "arr_1"),
            ("imgs", "Class"),
        ],
    )
    def test_images_without_splits_are_divided_and_that_is_said(
        self, names: tuple[str, str], tmp_path: Path
    ) -> None:
        whole = _source(70).train
        _savez(tmp_path / "a.npz", **dict(zip(names, whole, strict=True)))
        found = _npz(tmp_path / "a.npz")
        assert found.fingerprint() == arrays.divide("a", whole).fingerprint()
        assert "no test split: 10 of 70 images" in found.notes[-1]

    def test_a_validation_split_validates(self, tmp_path: Path) -> None:
        train, more, test = _source().train, _source(7).train, _source().test
        values = {"x_train": train.images, "x_val": more.images, "x_test": test.images}
        for name, array in values.items():
            np.save(tmp_path / f"{name}.npy", array)
        _savez(tmp_path / "a.npz", **values, train_labels=train.labels, val_labels=more.labels)
        for source in (f"npz:{tmp_path / 'a.npz'}", f"npy:{tmp_path}"):
            found = data.load(config.Data(source=source, binarization="none"))
            for part, wanted in (
                (found.train, train), (found.validation, more), (found.test, test),
            ):  # fmt: skip
                np.testing.assert_array_equal(np.asarray(part.images)[..., 0], wanted.images)
            if source.startswith("npz"):
                np.testing.assert_array_equal(found.validation.labels, more.labels)
        _savez(tmp_path / "a.npz", **{**values, "x_val": np.asarray(more.images)[:, :2]})
        with pytest.raises(DataError, match=r"validation images \(7, 2, 3\) of uint8"):
            _npz(tmp_path / "a.npz")

    def test_the_configuration_may_name_arrays(self, tmp_path: Path) -> None:
        file = self._save(tmp_path, x=np.asarray(_source(50).train.images), kind=np.arange(50) % 3)
        found = _npz(file, images=("x",), labels=("kind",))
        whole = arrays.Images(_source(50).train.images, np.arange(50, dtype=np.int32) % 3)
        assert found.fingerprint() == arrays.divide("x", whole).fingerprint()
        swapped = _npz(file, images=("x_test", "x_train"), labels=("y_test", "y_train"))
        np.testing.assert_array_equal(swapped.train.images, _source().test.images)
        np.testing.assert_array_equal(swapped.test.labels, _source().train.labels)
        assert _npz(file, images=("x_train", "x_test"), labels=()).train.labels is None
        alone = _npz(file, images=("x_train",))
        assert alone.train.labels is not None
        for wrong, words in (
            ({"images": ("x_trian",)}, "no array x_trian; did you mean x_train"),
            ({"labels": ("y",)}, "data.labels names 1, and there are images of 2"),
        ):
            with pytest.raises(DataError, match=words):
                _npz(file, **wrong)

    def test_arrays_that_hold_the_same_are_not_several(self, tmp_path: Path) -> None:
        """Scikit-learn's digits are there as images and as rows."""
        images = np.asarray(_source().train.images)
        _savez(tmp_path / "a.npz", data=images.reshape(60, -1), images=images)
        assert _npz(tmp_path / "a.npz").train.image_shape == (4, 3, 1)

    def test_a_single_array_may_have_any_name(self, tmp_path: Path) -> None:
        _savez(tmp_path / "a.npz", whatever=_source().train.images)
        assert _npz(tmp_path / "a.npz").train.image_shape == (4, 3, 1)

    def test_arrays_that_are_not_used_may_be_anything(self, tmp_path: Path) -> None:
        file = self._save(tmp_path, metadata=np.array({"a": 1}, object))
        assert _npz(file).fingerprint() == _source().fingerprint()

    @pytest.mark.parametrize(
        ("make", "note"),
        [
            (lambda y: y.astype(float), None),
            (lambda y: y.astype(np.float16), None),
            (lambda y: y.astype(np.uint8)[:, None], None),
            (lambda y: np.eye(7)[y], "one-hot"),
            (lambda y: y.astype(str), None),
            (lambda y: y.astype("S"), None),
            (lambda y: np.array(list("abcdefg"))[y], "classes by name: 7 (a, b, c, d, e, f, g)"),
        ],
    )
    def test_labels_may_be_of_any_kind(
        self, make: Callable[..., np.ndarray], note: str | None, tmp_path: Path
    ) -> None:
        train, test = (part.labels for part in (_source().train, _source().test))
        read = _npz(self._save(tmp_path, y_train=make(train), y_test=make(test)))
        np.testing.assert_array_equal(read.train.labels, train)
        np.testing.assert_array_equal(read.test.labels, test)
        assert any(note in each for each in read.notes) if note else not read.notes
        assert read.classes == (tuple("abcdefg") if note and "name" in note else ())

    def test_members_that_are_no_arrays_do_not_count(self, tmp_path: Path) -> None:
        file = self._save(tmp_path, x_train=None)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("x_train", "not an array")
        with pytest.raises(DataError, match=r"no array .* training images; there are x_test"):
            _npz(file)

    @pytest.mark.parametrize(
        ("offset", "value", "reason"), [(6, 1, "encrypted"), (8, 99, "compression method")]
    )
    def test_archives_that_cannot_be_unpacked_are_refused(
        self, offset: int, value: int, reason: str, tmp_path: Path
    ) -> None:
        """Flags and method stand in the header of a member, and again in the directory."""
        file = self._save(tmp_path)
        content = bytearray(file.read_bytes())
        content[content.index(b"PK\3\4") + offset] = value
        content[content.index(b"PK\1\2") + offset + 2] = value
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"not a readable NumPy archive: .*{reason}"):
            _npz(file)

    def test_files_that_are_no_archives_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "images.npz"
        with pytest.raises(DataError, match="cannot be read: No such file"):
            _npz(file)
        good = self._save(tmp_path).read_bytes()
        for content in (b"", b"text", good[:-100]):
            file.write_bytes(content)
            with pytest.raises(DataError, match="not a readable NumPy archive"):
                _npz(file)
        with file.open("wb") as out:
            np.save(out, np.zeros(3))
        with pytest.raises(DataError, match="not a readable NumPy archive: File is not a zip file"):
            _npz(file)


class TestCache:
    """Prepared data sets on disk."""

    def test_a_data_set_is_built_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "new"))
        built = []

        def build() -> arrays.Published:
            built.append(1)
            return _source()

        for _ in range(2):
            assert cache.cached("x", build).fingerprint() == _source().fingerprint()
        assert len(built) == 1
        assert [file.name for file in (tmp_path / "new" / "data").iterdir()] == ["x-v1.npz"]

    def test_a_damaged_copy_is_built_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
        cache.cached("x", _source)
        file = cache.path("x")
        good = file.read_bytes()
        flipped = bytearray(good)
        flipped[good.index(np.asarray(_source().train.images).tobytes()) + 5] ^= 1
        for content in (b"", good[:300], bytes(flipped)):
            file.write_bytes(content)
            assert cache.cached("x", _source).fingerprint() == _source().fingerprint()
            assert len(file.read_bytes()) == len(good)

    def test_a_copy_with_a_wrong_fingerprint_is_built_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The archive itself is intact here, but it is not what was stored."""
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
        cache.cached("x", lambda: _source(30))
        with np.load(cache.path("x")) as archive:
            other = dict(archive)
        other["x_train"] = np.zeros_like(other["x_train"])
        np.savez(cache.path("x"), **other)
        assert cache.cached("x", _source).fingerprint() == _source().fingerprint()

    def test_what_a_killed_process_left_incomplete_is_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """But not what another process is writing, or is about to lock."""
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))
        cache.cached("other", _source)
        folder = tmp_path / "data"
        left, begun, mine = (
            folder / f".{name}-v1.npy.0123abcd" for name in ("left", "begun", "mine")
        )
        (folder / ".notes.txt.0123abcd").touch()
        for half in (left, begun, mine):
            half.touch()
        for half in (left, mine):
            os.utime(half, (0, 0))
        with mine.open("wb") as writing:
            fcntl.flock(writing, fcntl.LOCK_EX)
            os.utime(mine, (0, 0))
            cache.stored("x", 1, lambda: [np.zeros((1, 1, 1), np.uint8)], silent)
        assert not left.exists()
        assert len([*folder.iterdir()]) == 5
        assert begun.exists()
        assert mine.exists()

    def test_a_file_is_locked_while_it_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path))

        def images() -> Iterator[Any]:
            yield np.zeros((1, 1, 1), np.uint8)
            (half,) = (tmp_path / "data").iterdir()
            os.utime(half, (0, 0))
            cache.cached("other", _source)
            assert half.exists()

        assert len(cache.stored("x", 1, images, silent)) == 1

    def test_a_cache_that_cannot_be_written_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("VAECTL_CACHE_DIR", str(tmp_path / "file"))
        with pytest.raises(DataError, match="cannot be written"):
            cache.cached("x", _source)


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(DataError, match="no such data source"):
        data.published("cifar")


class TestWithoutScheme:
    """Sources are understood where only one can be meant."""

    @pytest.mark.parametrize(
        ("text", "full"),
        [
            ("digits", "digits-5k"),
            ("mnist", "tfds:mnist"),
            ("Fashion-MNIST", "tfds:fashion_mnist"),
            ("x.npz", "npz:{}/x.npz"),
            ("gone/x.NPZ", "npz:{}/gone/x.NPZ"),
            ("x.npy", "npy:{}/x.npy"),
            ("x.csv.gz", "table:{}/x.csv.gz"),
            ("x.parquet", "table:{}/x.parquet"),
            ("~/pictures", "images:{}/pictures"),
            ("pictures", "images:{}/pictures"),
            ("./arrays/", "npy:{}/arrays"),
            ("idx", ""),
            ("./idx", "idx:{}/idx"),
            ("npx:x.npz", ""),
            ("a:b.npz", "npz:{}/a:b.npz"),
            ("x.txt", ""),
            ("empty", ""),
            ("both", ""),
        ],
    )
    def test_a_file_a_folder_or_a_name_alone(
        self, text: str, full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in (
            *("pictures/cats/1.JPG", "arrays/x_train.npy", "idx/t10k-images-idx3-ubyte.gz"),
            *("both/x.npy", "both/1.png", "empty/notes.txt", "x.txt", "a:b.npz"),
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        if full:
            assert config.Data(source=text).source == full.format(tmp_path)
            return
        with pytest.raises(DataError) as error:
            parse(text)
        if text == "both":
            assert "images:both or npy:both" in error.value.message
        elif text != "idx":
            assert "no such data source" in error.value.message

    @pytest.mark.parametrize(
        ("text", "near"),
        [
            ("f16", "f16.npz"),
            ("pictres", "pictures"),
            ("f16.np", "f16.npz"),
            ("notes", ""),
            ("", ""),  # not the current folder
            ("mnits", "tfds:mnist"),
            ("\udcff" * 300, ""),
        ],
    )
    def test_a_mistyped_file_is_asked_about(
        self, text: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pictures").mkdir()
        for name in ("f16.npz", "notes.txt", "pictures/1.png", "mnits.txt"):
            (tmp_path / name).touch()
        with pytest.raises(DataError, match="no such data source") as error:
            parse(text)
        assert error.value.message.endswith(f"; did you mean {near}?" if near else "tfds:NAME")

    def test_a_name_that_is_also_a_folder_is_asked_about(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mnist").mkdir()
        (tmp_path / "mnist" / "1.png").touch()
        with pytest.raises(DataError, match="images:mnist or tfds:mnist"):
            parse("mnist")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 28}, "size means nothing to digits-5k"),
        ({"images": "x"}, "images means nothing to digits-5k"),
        ({"resize": "pad", "source": "images:x"}, "there is no size"),
        ({"shape": [8, 8], "source": "images:x"}, "shape means nothing to images:"),
        ({"range": [1, 1]}, "two different values"),
        ({"range": [1]}, "at least 2"),
        ({"shape": [8]}, "at least 2"),
        ({"size": [8, 8, 8], "source": "images:x"}, "at most 2"),
        ({"channels": 2, "source": "images:x"}, "one of 1, 3, not 2"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        reading.of_mapping({"data": settings})


def test_one_name_and_one_number_stand_for_lists() -> None:
    read = reading.of_mapping({"data": {"source": "npz:x", "images": "a", "labels": [1, "b"]}}).data
    assert (read.images, read.labels) == (("a",), ("1", "b"))
    read = reading.of_mapping({"data": {"source": "images:x", "size": 28, "resize": "pad"}}).data
    assert read.plug.reading == Reading(size=(28, 28), resize="pad")


@needs_mnist
def test_mnist_splits_as_the_paper_does() -> None:
    dataset = data.load(config.Data(source=f"idx:{MNIST}"))
    sizes = [len(part.images) for part in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [50_000, 10_000, 10_000]
    assert set(np.unique(dataset.train.images)) == {0, 255}


@pytest.mark.parametrize("on_disk", [False, True])
def test_splits_that_lack_classes_of_the_training_images_are_told(
    on_disk: bool, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (600, 4, 4)).astype(np.uint8)
    labels = np.arange(600) // 60
    for split in ("train", "test"):
        np.save(tmp_path / f"x_{split}.npy", images)
        np.save(tmp_path / f"y_{split}.npy", labels)

    def lacking(**settings: Any) -> list[str]:
        memory = 0.0 if on_disk else None
        asked = Data(source=f"npy:{tmp_path}", memory_gb=memory, **settings)
        return [note for note in data.load(asked).notes if "lacks classes" in note]

    (note,) = lacking()
    assert "validation split lacks classes that train: 8 (0, 1, 2, 3, 4, 5, 6, 7)." in note
    assert "x_val" in note
    assert len(lacking(test_size=200)) == 2
    assert not lacking(validation_size=2)  # two images have few classes however they lie
    np.save(tmp_path / "x_val.npy", images)
    np.save(tmp_path / "y_val.npy", labels)
    assert not lacking()


def test_a_source_of_ones_own_is_told_how_it_is_read() -> None:
    class Own(Source, name="own-size"):
        heeds = Source.heeds | {"size"}

        def load(self, *, progress: bool = False) -> arrays.Published:
            del progress
            assert self.reading.size is not None
            pixels = np.linspace(0, 7, 12 * np.prod(self.reading.size))
            images = pixels.reshape(12, *self.reading.size)
            return arrays.divide("own", arrays.Images(images, None))

    try:
        values = {"source": "own-size", "size": 3, "range": [0, 7], "binarization": "none"}
        found = data.load(reading.of_mapping({"data": values}).data)
        assert found.image_shape == (3, 3, 1)
        with pytest.raises(ConfigError, match="channels means nothing to own-size"):
            reading.of_mapping({"data": {**values, "channels": 3}})
    finally:
        Source.known.pop("own-size")


def test_how_data_are_read_does_not_change_what_older_trials_are_known_by() -> None:
    plain = config.Config()
    assert identity.old_key(plain, "x")
    told = reading.of_mapping({"data": {"range": [0, 255]}})
    assert identity.old_key(told, "x") is None
    assert identity.key(told, "x") != identity.key(plain, "x")


@pytest.mark.parametrize(
    "newer",
    [
        {"optimizer": {"ema": 0.999}},
        {"early_stopping": {"patience": 3}},
        {"model": {"dropout": 0.1}},
        {"model": {"condition": "label"}},
        {"prior": {"name": "vamp"}},
    ],
    ids=str,
)
def test_what_an_older_vaectl_could_not_run_has_no_key_of_it(newer: dict[str, object]) -> None:
    plain, other = (config.Config.model_validate(values) for values in ({}, newer))
    old = config.Config.model_validate({"model": {"activation": "tanh"}})
    assert identity.old_key(old, "x")
    assert identity.old_key(other, "x") is None
    assert identity.key(plain, "x") != identity.key(other, "x")


def test_a_claim_of_a_paper_does_not_change_the_key_of_a_trial() -> None:
    claim = {"paper": "a", "where": "b", "quantity": "elbo", "value": -1.0}
    plain, other = (config.Config.model_validate(v) for v in ({}, {"published": claim}))
    assert identity.key(plain, "x") == identity.key(other, "x")
    assert identity.old_key(plain, "x") == identity.old_key(other, "x")


@pytest.mark.parametrize(
    ("axes", "shape"), [((6, 20, 28), [28, 20]), ((6, 8, 8, 3), [3, 8, 8]), ((6, 4, 9), [36])]
)
def test_axes_that_differ_from_the_shape_are_refused_not_reshaped(
    axes: tuple[int, ...], shape: list[int]
) -> None:
    array = np.random.default_rng(0).integers(0, 256, axes, np.uint8)
    with pytest.raises(DataError, match="axes"):
        layout.images("x", array, shape)
    rows = layout.images("x", array.reshape(len(array), -1), [axes[1], *axes[2:]]).images
    np.testing.assert_array_equal(np.asarray(rows).reshape(axes), array)


def test_validation_images_of_another_scale_are_refused_unless_the_range_is_said(
    tmp_path: Path,
) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (60, 5, 5)).astype(np.float32)
    images[0, 0, :2] = 0, 1
    np.savez(tmp_path / "a.npz", x_train=255 * images, x_val=images[:20], x_test=255 * images)
    with pytest.raises(DataError, match=r"0 to 255 in the training.*0 to 1 in the validation"):
        _npz(tmp_path / "a.npz")
    found = _npz(tmp_path / "a.npz", range=[0, 255])
    assert np.asarray(found.train.images[-20:]).max() == 1


@pytest.mark.parametrize("kind", ["U3", "M8[s]", "i4,i4"])
def test_validation_images_that_are_no_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    images = np.zeros((60, 5, 5), kind)
    np.savez(tmp_path / "a.npz", x_train=images, x_val=images[:20])
    with pytest.raises(DataError, match="which pixels cannot have"):
        _npz(tmp_path / "a.npz")


def test_two_numbers_with_names_of_labels_are_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 5), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, label=3, digit=3)
    with pytest.raises(DataError, match="must hold one label for each of the 60 images"):
        _npz(tmp_path / "a.npz")


def test_labels_that_not_all_images_have_are_left_out_with_a_note(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 5), np.uint8)
    labels = np.arange(60) % 3
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_val=images[:9], x_test=images)
    found = data.published(f"npz:{tmp_path / 'a.npz'}")
    assert found.train.labels is None
    assert any("labels" in note for note in found.notes)
