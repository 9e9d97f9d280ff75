import contextlib
import errno
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaectl import config
from vaectl.base.errors import DivergedError, RunError
from vaectl.base.files import Folder
from vaectl.optimizers.base import Optimizer
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.saved import Info, best, find_intact, keep_only, kept, refuse_blocked
from vaectl.training.program import Member, Program, TrainState
from vaectl.training.step import init


@pytest.fixture(autouse=True)
def _quiet_orbax() -> Iterator[None]:
    """As whoever saves has it."""
    with quiet_orbax():
        yield


def _state(optimizer: str = "adam", seed: int = 0) -> TrainState:
    settings = config.Config.model_validate(
        {
            "seed": seed,
            "model": {"code_size": 2, "hidden_size": 4},
            "optimizer": {"name": optimizer},
        }
    )
    program = Program.of(settings, images=10, image_shape=(2, 3, 1))
    return init(program, Member.of(settings))


def _like(state: TrainState) -> TrainState:
    like: TrainState = jax.eval_shape(lambda: state)
    return like


def _info(epoch: int, elbo: float = -100.0, best: int = 1) -> Info:
    return Info(epoch=epoch, step=10 * epoch, score=elbo, best=10 * best)


@pytest.mark.parametrize("optimizer", Optimizer.known)
def test_a_state_comes_back_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    state = _state(optimizer)
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(state, _info(1))
        saved.commit()
        back = saved.restore(kept(Folder(tmp_path))[0], _like(state))
    assert isinstance(back, TrainState)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_may_be_donated_as_soon_as_it_is_being_saved(tmp_path: Path) -> None:
    state = jax.tree.map(lambda leaf: jnp.full((200, 1000), leaf.size), _state())
    expected = jax.tree.map(np.array, state)
    spoil = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf * 0, s), donate_argnums=0)
    like = _like(state)
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(state, _info(1))
        spoil(state)
        saved.commit()
        jax.tree.map(
            np.testing.assert_array_equal, saved.restore(kept(Folder(tmp_path))[0], like), expected
        )


def _save_epochs(directory: Path, *elbos: float) -> None:
    top = 1
    with Checkpoints(Folder(directory)) as saved:
        for epoch, elbo in enumerate(elbos, start=1):
            top = epoch if elbo > elbos[top - 1] else top
            saved.save(_state(seed=epoch), _info(epoch, elbo, top))


def test_the_latest_and_the_best_are_kept_and_what_stands_in_for_each(tmp_path: Path) -> None:
    _save_epochs(tmp_path, -130.0, -120.0, -100.0, -110.0, -105.0, -104.0)
    assert [info.epoch for info in kept(Folder(tmp_path))] == [2, 3, 5, 6]
    top = best(kept(Folder(tmp_path)))
    assert top is not None
    assert top.epoch == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{step}{suffix}" for step in (20, 30, 50, 60) for suffix in ("", ".json")
    }


@pytest.mark.parametrize(
    ("damaged", "resumes_from", "best_epoch"), [(2, 6, 3), (3, 2, 2), (5, 6, 3), (6, 5, 3)]
)
def test_any_one_checkpoint_may_be_damaged_and_a_run_resumes_exactly(
    damaged: int, resumes_from: int, best_epoch: int, tmp_path: Path
) -> None:
    """With the best of the epochs before it: without, the best in the end might be another one."""
    _save_epochs(tmp_path, -130.0, -120.0, -100.0, -110.0, -105.0, -104.0)
    (tmp_path / f"{damaged}0.json").unlink()
    found = find_intact(Folder(tmp_path))
    top = best(found.intact)
    assert top is not None
    assert (found.intact[-1].epoch, top.epoch) == (resumes_from, best_epoch)
    warning, *given_up = found.warnings
    assert warning.startswith(f"{tmp_path}/{damaged}0: the checkpoint is damaged")
    assert len(given_up) == (damaged == 3)
    for text in given_up:
        assert "what follows step 20 is trained again" in text
        assert "step 50, 60 are intact" in text


def test_a_best_state_that_is_lost_is_told_of(tmp_path: Path) -> None:
    _save_epochs(tmp_path, -100.0, -110.0)
    (tmp_path / "10.json").write_text('{\n  "format_version": 1')
    found = find_intact(Folder(tmp_path))
    assert [info.epoch for info in found.intact] == [2]
    assert found.warnings[1] == "the best state so far, of step 10, is lost with it"


def test_where_no_checkpoint_is_good_nothing_is_deleted(tmp_path: Path) -> None:
    _save_epochs(tmp_path, -100.0, -110.0)
    for step in (10, 20):
        (tmp_path / f"{step}.json").write_text('{\n  "format_version": 1')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match="none of the checkpoints is"):
        find_intact(Folder(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_kill_left_of_a_first_save_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    for name in ("10", "10.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
    found = find_intact(Folder(tmp_path))
    assert found.intact == []
    keep_only(Folder(tmp_path), set())
    assert list(tmp_path.iterdir()) == []


def _refuse_to_open(name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def open_others(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).name == name:
            raise OSError(code, os.strerror(code), str(path))
        return really(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_others)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("name", ["10.json", "manifest.ocdbt", "checkpoints"])
def test_what_cannot_be_read_just_now_is_not_damaged(
    code: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    _save_epochs(directory, -100.0, -110.0)

    _refuse_to_open(name, code, monkeypatch)
    with pytest.raises(RunError, match=f"{name}: cannot be read: {os.strerror(code)}"):
        find_intact(Folder(directory))


def test_a_folder_that_may_not_be_looked_into_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_epochs(tmp_path, -100.0)

    _refuse_to_open("10", errno.EACCES, monkeypatch)
    with pytest.raises(RunError, match="10: cannot be read: Permission denied"):
        find_intact(Folder(tmp_path))


def test_one_checkpoint_of_a_newer_format_blocks_nothing(tmp_path: Path) -> None:
    _save_epochs(tmp_path, -100.0, -90.0)
    (tmp_path / "10.json").write_text('{"format_version": 3}')
    assert [info.epoch for info in kept(Folder(tmp_path))] == [2]
    found = find_intact(Folder(tmp_path))
    assert [info.epoch for info in found.intact] == [2]
    (warning,) = found.warnings
    assert warning.startswith(f"{tmp_path}/10: the checkpoint is of a newer vaectl")
    keep_only(Folder(tmp_path), {20})
    assert (tmp_path / "10").is_dir()
    assert (tmp_path / "10.json").exists()


def test_a_checkpoint_of_a_newer_format_is_in_the_way(tmp_path: Path) -> None:
    """It is told before what follows is trained."""
    _save_epochs(tmp_path, -100.0, -90.0)
    (tmp_path / "20.json").write_text('{"format_version": 3}')
    with pytest.raises(RunError, match="20: of a newer vaectl, and in the way of a checkpoint"):
        refuse_blocked(Folder(tmp_path), 10, 20)
    refuse_blocked(Folder(tmp_path), 20, 30)
    refuse_blocked(Folder(tmp_path), 0, 19)


def test_a_file_of_somebody_else_damages_no_checkpoint_and_is_named(tmp_path: Path) -> None:
    """The Finder of macOS leaves a .DS_Store in each directory that it shows."""
    _save_epochs(tmp_path, -100.0, -90.0)
    folder = Folder(tmp_path)
    strange = [tmp_path / "20" / name for name in (".DS_Store", "d/.nfs01")]
    for file in strange:
        file.write_bytes(b"another's")
    found = find_intact(folder)
    assert [info.step for info in found.intact] == [10, 20]
    said = "not a checkpoint made by vaectl, and not touched"
    assert found.warnings == [f"{file}: {said}" for file in strange]
    with Checkpoints(folder) as saved:
        saved.restore(found.intact[-1], _like(_state()))
    with pytest.raises(RunError, match=r"20/\.DS_Store: in the way of a checkpoint") as error:
        refuse_blocked(folder, 10, 20)
    assert error.value.hint == "move it away, and resume"
    keep_only(folder, {10})
    assert all(file.exists() for file in strange)
    assert not (tmp_path / "20.json").exists()


def test_a_newer_format_is_refused_with_a_hint(tmp_path: Path) -> None:
    _save_epochs(tmp_path, -100.0)
    (tmp_path / "10.json").write_text('{"format_version": 3}')
    with pytest.raises(RunError, match=r"10\.json: format 3 is newer") as error:
        find_intact(Folder(tmp_path))
    assert "upgrade" in error.value.hint


def test_the_sums_of_an_epoch_under_way_come_back_bit_for_bit(tmp_path: Path) -> None:
    many = {f"{number:x>40}": -1e9 / 7 for number in range(1000)}
    sums = {"kl": 1 / 3, "nll": 5e300 / 7, **many}
    info = Info(epoch=0, step=3, beyond=3, sums=sums, score=None)
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(_state(), info)
    (back,) = kept(Folder(tmp_path))
    assert back.sums == info.sums
    assert (back.where, best([back])) == ("epoch 0 + 3 steps", None)


def test_what_stood_beside_a_checkpoint_before_terms_had_names_is_read() -> None:
    fields = '{"epoch": 2, "step": 33, "beyond": 3, "sums": [0.5, 7.0], "image_shape": [28, 28], '
    info = Info.model_validate_json(fields + '"validation_elbo": -100.0}')
    assert (info.quantity, info.score, info.sums) == ("elbo", -100.0, {"kl": 0.5, "nll": 7.0})
    assert info.image_shape == (28, 28, 1)


def test_leaving_the_context_finishes_the_save_under_way(tmp_path: Path) -> None:
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(_state(), _info(3))
    assert [info.epoch for info in kept(Folder(tmp_path))] == [3]


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ('"score": -100.0', '"score": 100.0'),
        ('"quantity": "elbo"', '"quantity": "nll"'),
        ('"epoch": 3', '"epoch": 2'),
        ('"beyond": 0', '"beyond": 1'),
        ('"best": 10', '"best": 30'),
        ('"seconds": 0.0', '"seconds": 8.0'),
        ('"sums": {', '"summs": {'),
        ('"beyond": 0', '"beyond": 0, "unheard": 1'),
        ('"seal": "', '"seal": "0'),
    ],
)
def test_whatever_is_changed_beside_a_checkpoint_is_noticed(
    was: str, is_: str, tmp_path: Path
) -> None:
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(_state(), _info(3))
    file = tmp_path / "30.json"
    assert was in file.read_text()
    file.write_text(file.read_text().replace(was, is_))
    assert kept(Folder(tmp_path)) == []
    with pytest.raises(RunError, match="none of the checkpoints is"):
        find_intact(Folder(tmp_path))


def test_a_checkpoint_without_its_json_does_not_count(tmp_path: Path) -> None:
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(_state(), _info(1))
    (tmp_path / "10.json").write_text('{\n  "format_version": 1')
    assert kept(Folder(tmp_path)) == []


def test_one_flipped_byte_in_any_file_is_noticed(tmp_path: Path) -> None:
    state = _state()
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(state, _info(1))
        saved.commit()
        (info,) = kept(Folder(tmp_path))
        files = [path for path in (tmp_path / "10").rglob("*") if path.is_file()]
        assert len(files) > 5
        for file in files:
            good = file.read_bytes()
            broken = bytearray(good or b"x")
            broken[len(broken) // 2] ^= 0x10
            for content in (bytes(broken), good[:-1] or b"y", None):
                file.unlink() if content is None else file.write_bytes(content)
                with pytest.raises(RunError, match=f"{tmp_path}/10: the checkpoint is damaged"):
                    saved.restore(info, _like(state))
            file.write_bytes(good)
        saved.restore(info, _like(state))


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path: Path) -> None:
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(_state("adam"), _info(1))
        saved.commit()
        with pytest.raises(RunError, match=r"does not fit config\.yaml"):
            saved.restore(kept(Folder(tmp_path))[0], _like(_state("sgd")))


def _fill_the_disk(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a save end as it does on a full disk: by a long word of TensorStore's."""

    finished = saved._orbax.wait_until_finished
    words = [
        'OUT_OF_RANGE: Error opening "zarr" driver: Failed to write 689737 bytes to file 11: '
        "No space left on device [tensorstore_spec='{...}'] [os_error_code='28']"
    ]

    def wait() -> None:
        finished()
        if words and threading.current_thread() is not threading.main_thread():
            raise ValueError(words.pop())

    monkeypatch.setattr(saved._orbax, "wait_until_finished", wait)


def test_a_save_that_fails_is_an_error_and_what_was_saved_before_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Checkpoints(Folder(tmp_path)) as saved:
        saved.save(_state(), _info(1))
        saved.commit()
        _fill_the_disk(saved, monkeypatch)
        saved.save(_state(), _info(2))
        with pytest.raises(RunError) as error:
            saved.commit()
    assert error.value.message == (
        f"{tmp_path}/20: the checkpoint cannot be written: No space left on device"
    )
    assert [info.epoch for info in kept(Folder(tmp_path))] == [1]


def test_a_place_for_checkpoints_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        Checkpoints(Folder(tmp_path / "file" / "c")) as saved,
        pytest.raises(RunError, match="Not a dir"),
    ):
        saved.save(_state(), _info(1))


def test_what_orbax_raises_as_it_closes_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it raised the same again, which was taken for a full memory."""

    def close() -> None:
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    def save() -> None:
        with Checkpoints(Folder(tmp_path)) as saved:
            _fill_the_disk(saved, monkeypatch)
            monkeypatch.setattr(saved._orbax, "close", close)
            saved.save(_state(), _info(1))

    with pytest.raises(RunError, match="cannot be written: No space left"):
        save()


def test_saving_leaves_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings() -> tuple[object, ...]:
        levels = [logging.getLogger(name).level for name in ("absl", "asyncio")]
        return sys.unraisablehook, levels, warnings.filters[:], warnings.showwarning

    before = settings()
    with pytest.raises(RunError), Checkpoints(Folder(tmp_path)) as saved:  # noqa: PT012
        _fill_the_disk(saved, monkeypatch)
        saved.save(_state(), _info(1))
    assert settings() == before


def test_saves_in_two_threads_begin_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orbax numbers saves by a global counter: two at once wait for each other for 300 s."""
    import orbax.checkpoint

    begin = orbax.checkpoint.StandardCheckpointer.save
    both = threading.Barrier(2)

    def meet(*arguments: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.2)
            raise AssertionError
        begin(*arguments)

    def save(name: str) -> list[Info]:
        (tmp_path / name).mkdir()
        with Checkpoints(Folder(tmp_path / name)) as saved:
            saved.save(_state(), _info(1))
        return kept(Folder(tmp_path / name))

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", meet)
    with ThreadPoolExecutor(2) as threads:
        assert [len(infos) for infos in threads.map(save, "ab")] == [1, 1]


def test_leaving_the_context_tells_of_a_failed_save_unless_a_worse_error_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(error: Exception | None) -> None:
        with Checkpoints(Folder(tmp_path)) as saved:
            _fill_the_disk(saved, monkeypatch)
            saved.save(_state(), _info(1))
            if error:
                raise error

    with pytest.raises(RunError, match="cannot be written"):
        leave(None)
    with pytest.raises(DivergedError):
        leave(DivergedError("a NaN", hint=""))
