"""Images that stay on disk: they are read as an array in memory is, and train to equal bits."""

import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Vaectl, assert_equal_runs
from tests.test_resume import _stop_at
from vaectl import config, data, experiment
from vaectl.base import devices, memory
from vaectl.base.errors import ConfigError, DataError, InterruptedRunError
from vaectl.data import npy, scale, stored
from vaectl.data.arrays import Images, Published
from vaectl.data.reading import Reading
from vaectl.data.stored import Stored, changed, ends, pieces
from vaectl.evaluation.likelihoods import likelihoods
from vaectl.runs.directory import RunDir
from vaectl.studies import identity
from vaectl.training import compiled, events, footprint
from vaectl.training import fit as fitting
from vaectl.training.events import ignore
from vaectl.training.fit import Epoch
from vaectl.training.program import Member, Program

Array = np.ndarray[Any, Any]
COUNT, TEST = 60, 10


def _levels(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 3)).astype(np.uint8)


def _save(folder: Path, change: Callable[[Array], Array] = lambda x: x) -> Path:
    folder.mkdir(exist_ok=True)
    for split, count in (("train", COUNT), ("test", TEST)):
        np.save(folder / f"x_{split}.npy", change(_levels(count, count)))
        np.save(folder / f"y_{split}.npy", np.arange(count) % 7)
    return folder


def _file(folder: Path, array: Array) -> Stored:
    np.save(folder / "x.npy", array)
    return npy.stored(folder / "x.npy")


class TestStored:
    """The array."""

    @pytest.mark.parametrize("count", [0, 1])
    def test_a_step_beyond_all_images_takes_one_at_most(self, count: int) -> None:
        array = _levels(3)
        images = Stored(lambda numbers: array[numbers], range(3), (4, 3), array.dtype)
        few = images[:count][:: 2**63].map(lambda part, _: part, array.dtype)
        np.testing.assert_array_equal(np.asarray(few), array[:count])

    @given(st.data())
    def test_it_reads_as_an_array_does(self, drawn: st.DataObject) -> None:
        array = _levels(drawn.draw(st.integers(1, 50)))
        images: stored.Pixels = Stored(
            lambda numbers: array[numbers], range(len(array)), (4, 3), array.dtype
        )
        expected = array
        for _ in range(drawn.draw(st.integers(0, 4))):
            key: Any = drawn.draw(
                st.slices(len(expected))
                | st.lists(st.integers(0, max(len(expected) - 1, 0)), max_size=len(expected))
            )
            key = key if isinstance(key, slice) else np.array(key, np.int64)
            images, expected = images[key], expected[key]
            if drawn.draw(st.booleans()):
                images = changed(images, lambda part: 255 - part, array.dtype)
                expected = 255 - expected
        assert (images.shape, images.dtype, len(images)) == (
            *(expected.shape, expected.dtype),
            len(expected),
        )
        assert (images.ndim, images.size, images.nbytes) == (3, expected.size, expected.nbytes)
        np.testing.assert_array_equal(np.asarray(images), expected)
        for place in {0, len(expected) - 1, -len(expected)} if len(expected) else ():
            np.testing.assert_array_equal(images[place], expected[place])
        np.testing.assert_array_equal(np.asarray(images, np.float32), expected.astype("f4"))
        flat = images.reshape(-1, 12), images.reshape(len(images), -1)
        for each in flat:
            np.testing.assert_array_equal(np.asarray(each), expected.reshape(-1, 12))

    def test_pieces_are_bounded_and_hold_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        array = _levels(50)
        images = Stored(lambda numbers: array[numbers], range(50), (4, 3), array.dtype)
        monkeypatch.setattr(stored, "PIECE_BYTES", 100)
        assert max(piece.nbytes for piece in pieces(images)) <= 100
        np.testing.assert_array_equal(np.concatenate([*pieces(images)]), array)
        assert [id(piece) for piece in pieces(array)] == [id(array)]
        assert ends(images) == ends(array) == (array.min(), array.max())

    def test_more_than_the_memory_holds_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = Stored(lambda _: pytest.fail("read"), range(100), (4, 3), np.dtype(np.uint8))
        monkeypatch.setattr(memory, "total", lambda: 1199)
        with pytest.raises(DataError, match="100 images at once: that needs about"):
            np.asarray(images)


@pytest.mark.parametrize("kind", ["f2", "f4", "u1", "i2"])
def test_the_scale_of_images_is_found_in_one_reading(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PIECE_BYTES", 64)  # many pieces
    white = 1 if kind.startswith("f") else 200
    array = (np.random.default_rng(0).random((60, 2, 2)) * white).astype(kind)
    read: list[int] = []

    def some(numbers: Array) -> Array:
        read.extend(numbers.tolist())
        return array[numbers]

    train, test = (
        Images(Stored(some, part, (2, 2), array.dtype), None) for part in (range(50), range(50, 60))
    )
    scale.read("x", Published(train, test))
    again = 64 // array[0].nbytes  # the first ones tell that they are not black and white
    assert all(read.count(number) == 1 for number in range(again, 60))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 59])
def test_no_value_is_overlooked_on_disk(
    value: float, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PIECE_BYTES", 64)  # many pieces
    array = np.random.default_rng(0).random((60, 2, 2)).astype("f4")
    array[place, 1, 1] = value
    images = Stored(lambda numbers: array[numbers], range(60), (2, 2), array.dtype)
    with pytest.raises(DataError, match="NaN or infinite pixels: 1 in 1 of 60 images"):
        scale.read("x", Published(Images(images, None), Images(images, None)))


class TestNpy:
    """Files."""

    @pytest.mark.parametrize("gap", [1, 40, 10**6])
    @pytest.mark.parametrize("run", [1, 60, 10**6])
    @pytest.mark.parametrize("dtype", ["u1", ">f4", "f8", "?"])
    def test_images_are_read_by_their_numbers(
        self, gap: int, run: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(npy, "GAP_BYTES", gap)
        monkeypatch.setattr(npy, "RUN_BYTES", run)
        array = _levels(40).astype(dtype)
        images = _file(tmp_path, array)
        assert images.dtype == array.dtype
        for numbers in ([], [7], [3, 3, 3], [39, 0, 38, 1], np.arange(40), np.arange(40)[::-1]):
            np.testing.assert_array_equal(
                np.asarray(images[np.array(numbers, int)]), array[np.array(numbers, int)]
            )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda b: b[:-1], "truncated: 23 bytes of data, .* 2x4x3 of uint8 = 24"),
            (lambda b: b + b"x", "too long: 25 bytes"),
            (lambda b: b[:20], "not a readable NPY file"),
            (lambda _: b"", "not a readable NPY file"),
            (lambda _: b"\x89PNG\r\n\x1a\n" * 30, "not a readable NPY file"),
            (lambda b: b.replace(b"NUMPY\x01", b"NUMPY\x07"), "version"),
            (lambda b: b.replace(b"(2, 4, 3)", b"(-2,-4,3)"), "its header says"),
            (lambda b: b.replace(b"False", b"True "), "Fortran order"),
            (lambda _: _saved(np.array([{}, {}])), "Python objects, which are never loaded"),
            (lambda _: _saved(np.uint8(3)), "no images"),
            (lambda _: _saved(np.zeros((3, 0, 4), np.uint8)), r"shape \(3, 0, 4\)"),
            (lambda _: _saved(np.zeros((3, 20), np.uint8)), r"shape \(3, 20\)"),
            (lambda _: _saved(np.array(["a" * 12] * 3)), r"shape \(3,\)"),
            (lambda _: _saved(np.zeros((3, 4, 4), complex)), "type complex128"),
            (lambda _: _saved(np.full((30, 4, 4), np.nan)), "NaN or infinite pixels: 416"),
            (lambda _: _saved(np.full((30, 4, 4), 7, np.uint8)), "every pixel .* is 7"),
            (lambda _: _saved(np.arange(480.0).reshape(30, 4, 4)), "none of the scales"),
        ],
    )
    def test_what_is_no_array_of_images_is_refused(
        self, change: Callable[[bytes], bytes], message: str, tmp_path: Path
    ) -> None:
        (tmp_path / "x.npy").write_bytes(change(_saved(_levels(2))))
        with pytest.raises(DataError, match=message) as error:
            data.published(f"npy:{tmp_path / 'x.npy'}")
        assert error.value.hint

    def test_labels_must_be_one_integer_for_each_image(self, tmp_path: Path) -> None:
        for wrong in (np.arange(5), np.full(COUNT, np.nan), np.zeros((COUNT, 2), int)):
            np.save(_save(tmp_path / "arrays") / "y_train.npy", wrong)
            with pytest.raises(DataError, match=r"y_train\.npy"):
                data.published(f"npy:{tmp_path / 'arrays'}")
        (tmp_path / "arrays" / "y_train.npy").unlink()
        assert data.published(f"npy:{tmp_path / 'arrays'}").train.labels is None
        (tmp_path / "arrays" / "x_test.npy").unlink()
        divided = data.published(f"npy:{tmp_path / 'arrays'}")
        assert any("no test split" in note for note in divided.notes)
        (tmp_path / "arrays" / "x_train.npy").unlink()
        with pytest.raises(DataError, match="no array has a name that means"):
            data.published(f"npy:{tmp_path / 'arrays'}")

    def test_labels_that_are_python_objects_may_be_left_out(self, tmp_path: Path) -> None:
        objects = np.array(["a"] * COUNT, dtype=object)
        np.save(_save(tmp_path / "arrays") / "y_train.npy", objects, allow_pickle=True)
        with pytest.raises(DataError, match=r"y_train\.npy: it holds Python objects") as error:
            data.published(f"npy:{tmp_path / 'arrays'}")
        assert "data.labels=[]" in error.value.hint
        found = data.published(f"npy:{tmp_path / 'arrays'}", reading=Reading(labels=()))
        assert found.train.labels is None

    def test_a_file_that_changes_while_it_is_read_is_an_error(self, tmp_path: Path) -> None:
        images, path = _file(tmp_path, _levels(500)), tmp_path / "x.npy"
        whole = np.asarray(images)
        path.unlink()  # it goes on to exist until it is closed
        np.testing.assert_array_equal(np.asarray(images), whole)
        for change in (
            lambda: os.truncate(path, 300),
            lambda: path.write_bytes(path.read_bytes() + b"x"),
            lambda: os.utime(path, ns=(0, 0)),
        ):
            images = _file(tmp_path, _levels(500))
            change()
            with pytest.raises(DataError, match=r"x\.npy: was changed"):
                np.asarray(images[:3])

    def test_files_are_closed(self, tmp_path: Path) -> None:
        images = _file(tmp_path, _levels(5)).reshape(5, -1)[:3]
        assert np.asarray(images).shape == (3, 12)
        number = images._read._file  # type: ignore[attr-defined]
        os.fstat(number)
        del images
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


def _saved(array: Any) -> bytes:
    out = BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


class TestSplits:
    """Data sets."""

    @pytest.mark.parametrize("binarization", ["threshold", "stochastic", "static", "none"])
    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x,
            lambda x: x[..., np.newaxis],
            lambda x: x[:, np.newaxis],
            lambda x: np.stack([x, x // 2, 255 - x], -1),
            lambda x: x > 99,
            lambda x: (x > 99).astype("i2"),
            lambda x: (x / 255).astype("f4"),
            lambda x: x.astype("f8"),
        ],
        ids=["bytes", "last", "second", "rgb", "bool", "0/1", "0 to 1", "0.0 to 255.0"],
    )
    def test_they_are_the_same_as_in_memory(
        self,
        binarization: str,
        change: Callable[[Array], Array],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(stored, "PIECE_BYTES", 200)
        folder = _save(tmp_path / "arrays", change)
        arrays = {file.stem: np.load(file) for file in folder.iterdir()}
        np.savez(tmp_path / "x.npz", allow_pickle=False, **arrays)
        values = {"binarization": binarization, "train_size": 30, "validation_size": 12}
        there, here, archive = (
            data.load(config.Data.model_validate({"source": source, **values, **more}))
            for source, more in (
                (f"npy:{folder}", {"memory_gb": 0}),
                (f"npy:{folder}", {}),
                (f"npz:{tmp_path / 'x.npz'}", {}),
            )
        )
        assert (there.on_disk, here.on_disk, archive.on_disk) == (True, False, False)
        for name in ("fingerprint", "image_shape", "drawings", "notes"):
            assert getattr(there, name) == getattr(here, name) == getattr(archive, name)
        some = np.random.default_rng(1).integers(0, TEST, 20)
        for name in ("train", "validation", "test"):
            ours, theirs, others = (getattr(each, name) for each in (there, here, archive))
            assert isinstance(ours.images, Stored)
            np.testing.assert_array_equal(np.asarray(ours.images), theirs.images)
            np.testing.assert_array_equal(np.asarray(ours.flat[some]), theirs.flat[some])
            np.testing.assert_array_equal(others.images, theirs.images)
            np.testing.assert_array_equal(ours.labels, theirs.labels)

    def test_one_file_is_divided_as_pictures_are(self, tmp_path: Path) -> None:
        _file(tmp_path, _levels(70))
        found = data.published(f"npy:{tmp_path / 'x.npy'}")
        assert (len(found.train.images), len(found.test.images)) == (60, 10)
        both = np.concatenate([np.asarray(part.images) for part in (found.train, found.test)])
        assert {image.tobytes() for image in both} == {image.tobytes() for image in _levels(70)}

    @pytest.mark.parametrize(("memory_gb", "on_disk"), [(4 * 840e-9, False), (4 * 839e-9, True)])
    def test_a_setting_bounds_what_is_held(
        self, memory_gb: float, on_disk: bool, tmp_path: Path
    ) -> None:
        source = f"npy:{_save(tmp_path / 'arrays')}"
        assert data.load(config.Data(source=source, memory_gb=memory_gb)).on_disk is on_disk

    def test_trials_and_runs_do_not_depend_on_where_images_are_held(self) -> None:
        one, other = (
            config.Config(data=config.Data(memory_gb=memory_gb)) for memory_gb in (None, 0.5)
        )
        assert identity.key(one, "x") == identity.key(other, "x")
        assert identity.old_key(one, "x") == identity.old_key(other, "x")


def _settings(folder: Path, **data_settings: Any) -> config.Config:
    return config.Config.model_validate(
        {
            "epochs": 3,
            "batch_size": 7,
            "model": {"code_size": 2, "hidden_size": 8},
            "data": {"source": f"npy:{folder}", "train_size": 40, **data_settings},
            "checkpoint": {"every": 1},
        }
    )


class TestTraining:
    """Runs."""

    def test_a_run_from_disk_has_the_bits_of_one_from_host_memory(
        self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fitting, "CHUNK_BYTES", 2 * 7 * 12)
        settings = _settings(whole.parent / "arrays")
        held = experiment.run(settings, runs_dir=tmp_path, name="held", stream=True)
        assert RunDir(whole).read_record().device["images"] == "streamed from disk"
        assert_equal_runs(whole, held.path)

    @pytest.mark.full
    @pytest.mark.parametrize("binarization", ["threshold", "stochastic", "static", "none"])
    def test_a_run_from_disk_equals_one_from_memory(
        self, binarization: str, whole: Path, tmp_path: Path
    ) -> None:
        """Equal to rounding: it is another program, which on most machines has the same bits."""
        there, here = (
            experiment.run(
                _settings(whole.parent / "arrays", binarization=binarization, **more),
                runs_dir=tmp_path,
                name=name,
            )
            for name, more in (("there", {"memory_gb": 0}), ("here", {}))
        )
        assert there.validation.terms == pytest.approx(here.validation.terms, rel=1e-5)

    @pytest.mark.parametrize("step", [2, 6, 14])  # inside an epoch, at its end, in the last one
    def test_an_interrupted_run_goes_on_from_disk_to_the_same_bits(
        self, step: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fitting, "CHUNK_BYTES", 2 * 7 * 12)
        monkeypatch.setattr(fitting, "FIRST_CHUNK", 2)
        settings = _settings(whole.parent / "arrays", memory_gb=0)
        watch = _stop_at(lambda event: getattr(event, "step", 0) == step)
        with pytest.raises(InterruptedRunError):
            experiment.run(settings, runs_dir=tmp_path, name="a", watch=watch)
        result = experiment.resume(RunDir(tmp_path / "a"), settings)
        assert result.record.resumed[0].step == step
        assert result.record.resumed[0].warnings == []
        assert_equal_runs(whole, tmp_path / "a")

    def test_a_file_that_changes_under_a_training_ends_it_with_an_error(
        self, whole: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(whole.parent / "arrays", tmp_path / "arrays"))
        settings, file = _settings(folder, memory_gb=0), folder / "x_train.npy"
        content = file.read_bytes()

        def watch(event: events.Event) -> None:
            if isinstance(event, Epoch) and event.epoch == 2:
                file.write_bytes(content[:-1])

        with pytest.raises(DataError, match=r"x_train\.npy: was changed") as error:
            experiment.run(settings, runs_dir=tmp_path, name="a", watch=watch)
        assert error.value.hint
        run = RunDir(tmp_path / "a")
        assert run.read_record().status == "failed"
        with pytest.raises(DataError, match="truncated"):
            experiment.resume(run, settings)
        file.write_bytes(content)
        experiment.resume(run, settings)
        assert_equal_runs(whole, run.path)

    def test_a_run_goes_on_with_another_setting_of_memory(
        self, whole: Path, tmp_path: Path
    ) -> None:
        run = RunDir(Path(shutil.copytree(whole, tmp_path / "a")))
        settings = run.read_config()
        settings = settings.model_copy(
            update={"epochs": 4, "data": settings.data.model_copy(update={"memory_gb": None})}
        )
        result = experiment.resume(run, settings, extend=True)
        assert result.record.device["images"] == "streamed from disk"  # as it began
        assert "images was streamed from disk" in result.record.resumed[0].warnings[0]

    def test_each_image_is_read_once_an_epoch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Steps that are slow run few at a time; batches that were read for them are kept."""
        read: list[int] = []

        def images(numbers: Array) -> Array:
            read.extend(numbers.tolist())
            return _levels(40)[numbers]

        settings = _settings(Path("x"))
        program = Program.of(settings, images=40, image_shape=(4, 3, 1))
        member = jax.device_put(Member.of(settings), jax.devices("cpu")[0])
        monkeypatch.setattr(fitting, "CHUNK_BYTES", 2 * 7 * 12)
        on_disk = Stored(images, range(40), (12,), np.dtype(np.uint8))
        stream = fitting.Stream(program, member, on_disk)
        state = compiled.init(program, member)
        for epoch in range(2):
            for step in range(6):
                state, _ = stream.train(state, 6 * epoch + step, 6 * epoch + step + 1)
        # 42 of each epoch, two of them padding, and what is read ahead
        assert len(read) == 2 * 42 + 2 * 7
        assert set(read[:42]) == {*range(40)}

    def test_memory_is_asked_for_what_is_held_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = _settings(Path("x"))
        program = Program.of(settings, images=10**7, image_shape=(4, 3, 1))
        cpu = jax.devices("cpu")[0]
        assert footprint.check_training(program, 10**6, cpu, on_disk=True) is True
        monkeypatch.setattr(devices, "memory_of", lambda _: 10**6)
        with pytest.raises(ConfigError, match="this run needs about"):
            footprint.check_training(program, 10**6, cpu, on_disk=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from disk that never stopped, beside its data."""
    folder = tmp_path_factory.mktemp("whole")
    settings = _settings(_save(folder / "arrays"), memory_gb=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "CHUNK_BYTES", 2 * 7 * 12)
        return experiment.run(settings, runs_dir=folder, name="whole").path


def test_a_run_from_disk_is_evaluated_and_looked_at(whole: Path, vaectl: Vaectl) -> None:
    shutil.copytree(whole, "runs/a")
    for command in (
        ("evaluate", "a", "--importance-samples", "4", "--prior-samples", "5"),
        ("reconstruct", "a", "--count", "4"),
        ("inspect", "a"),
        ("morph", "a"),
        ("explore", "a"),
    ):
        answer = vaectl(*command)
        assert answer.code == 0, answer.err


def test_likelihoods_from_disk_are_those_from_memory(tmp_path: Path) -> None:
    settings = _settings(_save(tmp_path / "arrays"))
    program = Program.of(settings, images=40, image_shape=(4, 3, 1))
    variables = compiled.init(program, Member.of(settings)).params
    array = _levels(300)
    found, expected = (
        likelihoods(
            *(program.vae, variables, images.reshape(len(images), -1)),
            samples=1,
            importance_samples=3,
            seed=1,
        )
        for images in (_file(tmp_path, array), array)
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_several_processes_train_from_disk_too(tmp_path: Path) -> None:
    """A worker reads the data by itself."""
    settings = _settings(_save(tmp_path / "arrays"), memory_gb=0)
    dataset = data.load(settings.data)
    task = experiment.Task(settings, dataset, jax.devices("cpu")[:1], streamed=False, watch=ignore)
    assert all(isinstance(images, Stored) for images in task.images())
    assert task.place["images"] == "streamed from disk"


def test_a_setting_that_is_no_number_is_refused(vaectl: Vaectl) -> None:
    for value in ("-1", "some", ".nan"):
        answer = vaectl("train", "--set", f"data.memory_gb={value}")
        assert answer.code == 2
        assert "data.memory_gb" in answer.err
