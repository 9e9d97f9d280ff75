from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaectl import checkpoints, config, training
from vaectl.checkpoints import Checkpoints, Info
from vaectl.configfile import OPTIMIZERS
from vaectl.errors import DivergedError, RunError


def _state(optimizer: str = "adam", seed: int = 0) -> training.TrainState:
    settings = config.Config.model_validate(
        {
            "seed": seed,
            "model": {"code_size": 2, "hidden_size": 4},
            "optimizer": {"name": optimizer},
        }
    )
    program = training.program(settings, images=10, pixels=6)
    state: training.TrainState = training.init(program, training.member(settings))
    return state


def _like(state: training.TrainState) -> training.TrainState:
    like: training.TrainState = jax.eval_shape(lambda: state)
    return like


def _info(epoch: int, elbo: float = -100.0) -> Info:
    return Info(epoch=epoch, step=10 * epoch, validation_elbo=elbo)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_comes_back_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    state = _state(optimizer)
    with Checkpoints(tmp_path / "c") as kept:
        kept.save(state, _info(1))
        assert 10 in kept
        kept.commit()
        back = kept.restore(kept.list()[0], _like(state))
    assert isinstance(back, training.TrainState)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_may_be_donated_as_soon_as_it_is_being_saved(tmp_path: Path) -> None:
    state = jax.tree.map(lambda leaf: jnp.full((200, 1000), leaf.size), _state())
    expected = jax.tree.map(np.array, state)
    spoil = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf * 0, s), donate_argnums=0)
    like = _like(state)
    with Checkpoints(tmp_path) as kept:
        kept.save(state, _info(1))
        spoil(state)
        kept.commit()
        jax.tree.map(np.testing.assert_array_equal, kept.restore(kept.list()[0], like), expected)


def test_the_latest_and_the_best_are_kept(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as kept:
        for epoch, elbo in enumerate([-120.0, -100.0, -110.0, -105.0], start=1):
            kept.save(_state(seed=epoch), _info(epoch, elbo))
        kept.commit()
        assert [info.epoch for info in kept.list()] == [2, 4]
        assert checkpoints.best(kept.list()).epoch == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "20.json", "40", "40.json"]


def test_leaving_the_context_finishes_the_save_under_way(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as kept:
        kept.save(_state(), _info(3))
    assert [info.epoch for info in Checkpoints(tmp_path).list()] == [3]


def test_a_checkpoint_without_its_json_does_not_count(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as kept:
        kept.save(_state(), _info(1))
    (tmp_path / "10.json").write_text("{")
    assert Checkpoints(tmp_path).list() == []


def test_one_flipped_byte_in_any_file_is_noticed(tmp_path: Path) -> None:
    state = _state()
    with Checkpoints(tmp_path) as kept:
        kept.save(state, _info(1))
        kept.commit()
        (info,) = kept.list()
        files = [path for path in (tmp_path / "10").rglob("*") if path.is_file()]
        assert len(files) > 5
        for file in files:
            good = file.read_bytes()
            broken = bytearray(good or b"x")
            broken[len(broken) // 2] ^= 0x10
            for content in (bytes(broken), good[:-1] or b"y", None):
                file.unlink() if content is None else file.write_bytes(content)
                with pytest.raises(RunError, match=f"{tmp_path}/10: the checkpoint is damaged"):
                    kept.restore(info, _like(state))
            file.write_bytes(good)
        kept.restore(info, _like(state))


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as kept:
        kept.save(_state("adam"), _info(1))
        kept.commit()
        with pytest.raises(RunError, match=r"does not fit config\.yaml"):
            kept.restore(kept.list()[0], _like(_state("sgd")))


def _fill_the_disk(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a save end as it does on a full disk: by a long word of TensorStore's."""

    finished = kept._orbax.wait_until_finished
    words = [
        'OUT_OF_RANGE: Error opening "zarr" driver: Failed to write 689737 bytes to file 11: '
        "No space left on device [tensorstore_spec='{...}'] [os_error_code='28']"
    ]

    def wait() -> None:
        finished()
        if words:
            raise ValueError(words.pop())

    monkeypatch.setattr(kept._orbax, "wait_until_finished", wait)


def test_a_save_that_fails_is_an_error_and_what_was_saved_before_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Checkpoints(tmp_path) as kept:
        kept.save(_state(), _info(1))
        kept.commit()
        kept.save(_state(), _info(2))
        _fill_the_disk(kept, monkeypatch)
        with pytest.raises(RunError) as error:
            kept.commit()
    assert error.value.message == (
        f"{tmp_path}/20: the checkpoint cannot be written: No space left on device"
    )
    assert [info.epoch for info in Checkpoints(tmp_path).list()] == [1]


def test_a_place_for_checkpoints_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file" / "c") as kept, pytest.raises(RunError, match="Not a dir"):
        kept.save(_state(), _info(1))


def test_leaving_the_context_tells_of_a_failed_save_unless_a_worse_error_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(error: Exception | None) -> None:
        with Checkpoints(tmp_path) as kept:
            kept.save(_state(), _info(1))
            _fill_the_disk(kept, monkeypatch)
            if error:
                raise error

    with pytest.raises(RunError, match="cannot be written"):
        leave(None)
    with pytest.raises(DivergedError):
        leave(DivergedError("a NaN"))
