import dataclasses
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.conftest import few
from vaectl import config
from vaectl.base import mesh, streams
from vaectl.base.errors import ConfigError, DivergedError
from vaectl.evaluation import means as evaluation
from vaectl.models.base import Model
from vaectl.objectives.base import with_elbo
from vaectl.objectives.elbo import ELBO
from vaectl.optimizers._schedule import Schedule
from vaectl.optimizers.base import Optimizer
from vaectl.training import compiled
from vaectl.training import fit as fitting
from vaectl.training import step as training
from vaectl.training.fit import Chunk, Epoch, Saved, fit
from vaectl.training.program import Member, Program, TrainState
from vaectl.vae.networks import AutoEncoder

OPTIMIZERS = tuple(Optimizer.known)
SHAPE, PIXELS = (4, 4, 1), 16
step = jax.jit(training.step, static_argnames="program")


def _settings(**changes: object) -> config.Config:
    base: dict[str, object] = {
        "epochs": 3,
        "batch_size": 10,
        "model": {"code_size": 2, "hidden_size": 8},
    }
    return config.Config.model_validate({**base, **changes})


def _images(count: int, seed: int = 0) -> jax.Array:
    binary = np.random.default_rng(seed).integers(0, 2, size=(count, PIXELS))
    return jnp.asarray(255 * binary, jnp.uint8)


def _fit(settings: config.Config, count: int = 40) -> list[Epoch]:
    """All epochs, with copies of their states, which `fit` donates."""
    program = Program.of(settings, images=count, image_shape=SHAPE)
    member = Member.of(settings)
    state = compiled.init(program, member)
    epochs = fit(program, member, Saved(state), _images(count), _images(12, 1))
    return [
        epoch._replace(state=jax.tree.map(jnp.copy, epoch.state))
        for epoch in epochs
        if isinstance(epoch, Epoch)
    ]


def _bytes(tree: object) -> list[bytes]:
    return [_array(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def _array(leaf: jax.Array) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@pytest.mark.parametrize(
    "name",
    [n if n in ("adam", "sgd") else pytest.param(n, marks=pytest.mark.full) for n in OPTIMIZERS],
)
def test_the_bound_rises_with_every_optimizer(name: str) -> None:
    # larger rates than the paper's: the model is tiny and sees few batches
    optimizer = {"name": name, name: {"learning_rate": 0.05 if name != "sgd" else 0.01}}
    epochs = _fit(_settings(epochs=15, optimizer=optimizer))
    assert epochs[-1].train["elbo"] > epochs[0].train["elbo"] + 0.5
    assert [epoch.step for epoch in epochs] == [4 * n for n in range(1, 16)]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = (_fit(_settings(seed=seed))[-1] for seed in (3, 3, 4))
    assert _bytes(first.state) == _bytes(again.state)
    assert first.train == again.train
    assert first.validation == again.validation
    assert first.train != other.train


def test_a_run_taken_up_in_the_middle_ends_in_the_same_bits() -> None:
    settings = _settings(data={"binarization": "stochastic"})
    whole = _fit(settings)
    program = Program.of(settings, images=40, image_shape=SHAPE)
    state = jax.tree.map(jnp.copy, whole[0].state)
    rest = fit(program, Member.of(settings), Saved(state), _images(40), _images(12, 1))
    last = [(epoch, _bytes(epoch.state)) for epoch in rest][-1]
    assert isinstance(last[0], Epoch)
    assert last[0].epoch == 3
    assert last[1] == _bytes(whole[-1].state)
    assert last[0].validation == whole[-1].validation


def _pieces(settings: config.Config, train: evaluation.Images) -> list[tuple[object, ...]]:
    """All that a fit yields, with the bytes of its states; times apart."""
    program = Program.of(settings, images=len(train), image_shape=SHAPE)
    member = Member.of(settings)
    state = compiled.init(program, member)
    pieces: list[tuple[object, ...]] = []
    for piece in fit(program, member, Saved(state), train, _images(12, 1)):
        results = dict(piece.sums) if isinstance(piece, Chunk) else (piece.train, *piece[3:4])
        pieces.append((type(piece), piece.epoch, piece.step, results, _bytes(piece.state)))
    return pieces


@pytest.mark.parametrize("name", few(OPTIMIZERS, every=2))
def test_where_an_epoch_is_cut_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(optimizer={"name": name, "sgd": {"reset_each_epoch": True}})
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 100)
    whole = _pieces(settings, _images(40))
    assert [piece[:3] for piece in whole] == [(Epoch, 1, 4), (Epoch, 2, 8), (Epoch, 3, 12)]
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 1)
    monkeypatch.setattr(fitting, "CHUNK_SECONDS", 0.0)
    cut = _pieces(settings, _images(40))
    steps = [(Chunk, 1, 1), (Chunk, 1, 2), (Chunk, 1, 3), (Epoch, 1, 4)]
    assert [piece[:3] for piece in cut[:4]] == steps
    assert [piece for piece in cut if piece[0] is Epoch] == whole


def test_a_run_taken_up_inside_an_epoch_ends_in_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = _settings()
    whole = _fit(settings)
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 3)
    program = Program.of(settings, images=40, image_shape=SHAPE)
    member = Member.of(settings)
    state = compiled.init(program, member)
    started = fit(program, member, Saved(state), _images(40), _images(12, 1))
    chunk = next(started)
    assert isinstance(chunk, Chunk)
    assert chunk.step == 2
    state = jax.tree.map(jnp.copy, chunk.state)
    rest = [
        (epoch._replace(state=jax.tree.map(jnp.copy, epoch.state)))
        for epoch in fit(
            program, member, Saved(state, chunk.sums, 7.0), _images(40), _images(12, 1)
        )
        if isinstance(epoch, Epoch)
    ]
    assert [epoch.train for epoch in rest] == [epoch.train for epoch in whole]
    assert _bytes(rest[-1].state) == _bytes(whole[-1].state)
    assert rest[0].train_seconds > 7.0 > rest[1].train_seconds


NOISY = {
    "code_size": 2,
    "hidden_size": 8,
    "dropout": 0.3,
    "input_noise": 0.1,
    "normalization": "batch",
}


def test_dropout_and_running_means_go_on_in_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever an epoch is cut, and in another program that takes the state up."""
    settings = _settings(model=NOISY, microbatches=2)
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 100)
    whole = _pieces(settings, _images(40))
    program, member = Program.of(settings, images=40, image_shape=SHAPE), Member.of(settings)
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 2)
    started = fit(
        program, member, Saved(compiled.init(program, member)), _images(40), _images(12, 1)
    )
    chunk = next(started)
    assert isinstance(chunk, Chunk)
    state = jax.tree.map(jnp.copy, chunk.state)
    rest = [
        (epoch.train, epoch.validation, _bytes(epoch.state))
        for epoch in fit(program, member, Saved(state, chunk.sums), _images(40), _images(12, 1))
        if isinstance(epoch, Epoch)
    ]
    assert rest == [(*results, state) for *_, results, state in whole]  # type: ignore[misc]


def test_each_part_of_a_batch_has_a_dropout_of_its_own() -> None:
    image = jnp.tile(_images(1), (2, 1))
    kls, kept = {}, {}
    for rate, parts in ((0.0, 2), (0.5, 1), (0.5, 2)):
        model = {**NOISY, "dropout": rate, "input_noise": 0.0, "normalization": "none"}
        settings = _settings(model=model, batch_size=2, microbatches=parts)
        program, member = Program.of(settings, images=2, image_shape=SHAPE), Member.of(settings)
        state = compiled.init(program, member)
        of_one = []
        for weights in ((1.0, 0.0), (0.0, 1.0)):  # the KL of one image
            after, sums = step(program, member, state, image, jnp.array(weights))
            of_one.append(float(sums["kl"]))
        kls[rate, parts] = of_one
        kept[rate, parts] = _bytes(program.vae.network(after.params).split()[1])
    assert kls[0.0, 2][0] == pytest.approx(kls[0.0, 2][1], rel=1e-6)
    for parts in (1, 2):
        assert kls[0.5, parts][0] != pytest.approx(kls[0.5, parts][1], rel=1e-3)
    assert kept[0.5, 1] == kept[0.5, 2] != []  # keys and counters


@pytest.mark.parametrize("binarization", ["threshold", "stochastic"])
def test_images_streamed_from_host_memory_train_the_same(
    binarization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches in the same order: to rounding, for it is another program."""
    noisy = {"model": NOISY} if binarization == "stochastic" else {}
    settings = _settings(batch_size=7, data={"binarization": binarization}, **noisy)
    resident = _fit(settings)
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 8)
    monkeypatch.setattr(fitting, "CHUNK_BYTES", 2 * 7 * PIXELS)
    program = Program.of(settings, images=40, image_shape=SHAPE)
    member = Member.of(settings)
    pieces = fit(
        program,
        member,
        Saved(compiled.init(program, member)),
        np.asarray(_images(40)),
        np.asarray(_images(12, 1)),
    )
    streamed = [(type(piece), piece) for piece in pieces]
    assert [piece.step for kind, piece in streamed if kind is Chunk] == [2, 4, 8, 10, 14, 16]
    ends = [piece for _, piece in streamed if isinstance(piece, Epoch)]
    for one, other in zip(resident, ends, strict=True):
        assert one.train == pytest.approx(other.train, rel=1e-5)
        assert one.validation == pytest.approx(other.validation, rel=1e-5)


def test_seeds_and_learning_rates_compile_no_new_program() -> None:
    settings = _settings()
    _fit(settings)
    before = compiled.train_steps._cache_size()  # type: ignore[attr-defined]
    _fit(_settings(seed=9, optimizer={"adam": {"learning_rate": 0.3}}))
    assert compiled.train_steps._cache_size() == before  # type: ignore[attr-defined]


def test_an_epoch_compiles_once_though_its_last_batch_is_short() -> None:
    before = compiled.train_steps._cache_size()  # type: ignore[attr-defined]
    epochs = _fit(_settings(batch_size=7), count=33)
    assert compiled.train_steps._cache_size() == before + 1  # type: ignore[attr-defined]
    assert epochs[0].step == 5


@pytest.mark.parametrize("host", [False, True])
def test_all_that_a_fit_runs_was_compiled_before_it_started(host: bool) -> None:
    program = Program.of(_settings(batch_size=11), images=40, image_shape=SHAPE)
    member = Member.of(_settings())
    train: Any = _images(40)
    validation: Any = _images(12, 1)
    if host:
        train, validation = np.asarray(train), np.asarray(validation)
    state = compiled.init(program, member)
    fitting.compile_ahead(program, member, train, validation)
    names: list[str] = []

    def note(event: str, duration_secs: float, **more: str | int) -> None:
        del duration_secs  # that the cache saved may be below zero
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(more["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        assert len([*fit(program, member, Saved(state), train, validation)]) >= 3
        # bringing an array to the device is a program too, of a millisecond
        assert {name for name in names if "stage" not in name and "broadcast" not in name} == set()
        jax.jit(lambda x: x + 40)(train)  # one that nothing has compiled, which is noted
        assert "lambda" in names[-1]
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def test_every_image_trains_once_an_epoch() -> None:
    """At a learning rate of almost zero the KL of the epoch is that of all images, once each."""
    settings = _settings(
        batch_size=7, epochs=2, optimizer={"name": "sgd", "sgd": {"learning_rate": 1e-30}}
    )
    count = 33
    images = jnp.asarray(255 * (np.arange(count)[:, None] % 17 > np.arange(PIXELS)), jnp.uint8)
    program = Program.of(settings, images=count, image_shape=SHAPE)
    member = Member.of(settings)
    start = compiled.init(program, member)
    params = jax.tree.map(jnp.copy, start.params)
    _, sums = compiled.train_steps(program, member, start, images, 0, 5)
    # the KL, because it depends on no noise
    expected = evaluation.split_means(program.estimator, params, images, member.seed, 0, 0.0)
    np.testing.assert_allclose(sums["kl"].sum() / count, expected["kl"], rtol=1e-5)


def test_a_short_batch_counts_only_its_images() -> None:
    """The padded step equals the step of the unpadded batch."""
    settings = _settings(batch_size=8)
    program = Program.of(settings, images=8, image_shape=SHAPE)
    member = Member.of(settings)
    state = compiled.init(program, member)
    images = _images(8)
    weights = jnp.asarray([1.0] * 5 + [0.0] * 3)
    scrambled = images.at[5:].set(255 - images[5:])
    first, first_sums = step(program, member, state, images, weights)
    second, second_sums = step(program, member, state, scrambled, weights)
    assert first_sums.keys() == second_sums.keys() == {"kl", "nll"}
    for name, total in first_sums.items():
        np.testing.assert_allclose(total, second_sums[name], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), first, second)


def test_the_scan_equals_a_loop_of_steps() -> None:
    settings = _settings(optimizer={"name": "adagrad"})
    program = Program.of(settings, images=40, image_shape=SHAPE)
    member = Member.of(settings)
    images = _images(40)
    order = jax.random.permutation(streams.key(member.seed, "shuffle", 0), 40).reshape(4, 10)
    state = compiled.init(program, member)
    for rows in order:
        state, _ = step(program, member, state, images[rows], jnp.ones(10))
    scanned, _ = compiled.train_steps(program, member, compiled.init(program, member), images, 0, 4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), scanned, state
    )


def test_sgd_forgets_its_momentum_when_an_epoch_starts_if_asked() -> None:
    def after_two_epochs(**sgd: object) -> TrainState:
        optimizer = {"name": "sgd", "sgd": {"learning_rate": 0.01, **sgd}}
        return _fit(_settings(epochs=2, optimizer=optimizer))[-1].state

    keeps, forgets, without = (
        after_two_epochs(),
        after_two_epochs(reset_each_epoch=True),
        after_two_epochs(momentum=0.0, reset_each_epoch=True),
    )
    assert _bytes(keeps.params) != _bytes(forgets.params)
    assert _bytes(forgets.params) != _bytes(without.params)


def test_every_optimizer_starts_from_the_same_weights() -> None:
    starts = []
    for name in OPTIMIZERS:
        settings = _settings(optimizer={"name": name})
        program = Program.of(settings, images=40, image_shape=SHAPE)
        starts.append(_bytes(compiled.init(program, Member.of(settings)).params))
    assert all(start == starts[0] for start in starts)


def test_divergence_names_epoch_and_step() -> None:
    optimizer = {"name": "sgd", "sgd": {"learning_rate": 1e9}}
    with pytest.raises(DivergedError, match=r"not finite at epoch 1, step \d") as error:
        _fit(_settings(optimizer=optimizer))
    assert "--learning-rate" in error.value.hint


def test_stochastic_pixels_are_drawn_anew_and_have_the_right_mean() -> None:
    optimizer = {"name": "sgd", "sgd": {"momentum": 0.0, "learning_rate": 1.0}}
    settings = _settings(data={"binarization": "stochastic"}, batch_size=1000, optimizer=optimizer)
    program = Program.of(settings, images=1000, image_shape=SHAPE)
    member = Member.of(settings)
    images = jnp.full((1000, PIXELS), 64, jnp.uint8)
    start = compiled.init(program, member)
    start = start._replace(params=jax.tree.map(jnp.zeros_like, start.params))
    biases = []
    for number in range(2):
        state = start._replace(step=jnp.int32(number))
        after, _ = step(program, member, state, images, jnp.ones(1000))
        biases.append(np.asarray(after.params["decoder"]["logits"]["bias"]))
    # with all parameters zero the direction is mean(1/2 - x); its standard error is 0.014
    np.testing.assert_allclose(-biases[0], 0.5 - 64 / 255, atol=0.06)
    assert np.unique(biases[0]).size > 1
    assert (biases[0] != biases[1]).any()


class _Told(ELBO):
    """Reports the epoch that it is told. No plug: it has no name of its own."""

    def terms(self, network: Any, x: Any, noise: Any, epoch: Any) -> Any:
        loss, terms = super().terms(network, x, noise, epoch)
        return loss, {**terms, "told": jnp.broadcast_to(epoch, loss.shape)}


class _Batched(Model):
    """Keeps more than parameters: running means of its inputs, and a counter of dropout."""

    def build(self, image_shape: Any, code_size: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        inputs = math.prod(image_shape)
        encoder = nnx.Sequential(
            lambda x: x.reshape(len(x), -1),
            nnx.BatchNorm(inputs, momentum=0.9, rngs=rngs),
            nnx.Dropout(0.5, rngs=rngs),
            nnx.Linear(inputs, 2 * code_size, rngs=rngs),
        )
        decoder = nnx.Linear(code_size, inputs * outputs, rngs=rngs)
        return AutoEncoder(encoder, decoder, (*image_shape, outputs))


def test_the_objective_is_told_how_many_epochs_and_parts_of_one_were_trained() -> None:
    settings = _settings(epochs=2)
    program = Program.of(settings, images=25, image_shape=SHAPE)
    program = dataclasses.replace(program, objective=_Told())
    assert sorted(training.columns(program)) == ["elbo", "kl", "nll", "told"]
    member = Member.of(settings)
    state = compiled.init(program, member)
    told = [
        (piece.train["told"], piece.validation["told"])
        for piece in fit(program, member, Saved(state), _images(25), _images(12, 1))
        if isinstance(piece, Epoch)
    ]
    # three steps of 10, 10 and 5 images begin at 0, 1/3 and 2/3 of the epoch
    mean = (10 * 0 + 10 / 3 + 5 * 2 / 3) / 25
    np.testing.assert_allclose(told, [(mean, 1), (1 + mean, 2)], rtol=1e-5)


def test_what_a_model_keeps_beside_parameters_is_kept_and_rests_in_evaluation() -> None:
    """Running means, and dropout, which train and do not evaluate."""
    settings = _settings(batch_size=12, optimizer={"name": "sgd", "sgd": {"learning_rate": 1e-30}})
    program = Program.of(settings, images=12, image_shape=SHAPE)
    vae = dataclasses.replace(program.vae, model=_Batched())
    program = dataclasses.replace(program, vae=vae)
    member, images = Member.of(settings), _images(12)
    start = compiled.init(program, member)
    before = _by_path(start)
    state, _ = compiled.train_steps(program, member, start, images, 0, 1)
    after = _by_path(state)
    mean = next(name for name in after if name.endswith("['mean']"))
    expected = 0.1 * np.asarray(images).mean(axis=0) / 255
    np.testing.assert_allclose(after[mean], expected, rtol=1e-5)
    count = next(name for name in after if "Dropout" in name or name.endswith("['count']"))
    assert (after[count] != before[count]).any()

    def means(of: jax.Array) -> float:
        found = evaluation.split_means(program.estimator, state.params, of, member.seed, 0, 0.0)
        return found["kl"]

    # neither what stands beside an image nor chance changes its KL
    halves = means(images[:6]), means(images[6:])
    assert means(images) == pytest.approx(np.mean(halves), rel=1e-5)


def _by_path(state: TrainState) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    return {jax.tree_util.keystr(path): _array(leaf) for path, leaf in leaves}


def test_every_optimizer_meets_the_same_noise_and_the_same_batches() -> None:
    """At the same seed; comparisons are paired by it."""
    met = set()
    for name in OPTIMIZERS:
        settings = _settings(seed=5, optimizer={"name": name})
        program = Program.of(settings, images=23, image_shape=SHAPE)
        member = Member.of(settings)
        noise = np.asarray(training.noise(program, member, 4))
        order = np.asarray(training.order(program, member, 1))
        met.add((noise.tobytes(), order.tobytes()))
        assert noise.dtype == np.float32
        assert order.dtype == np.int32
    assert len(met) == 1


def test_a_members_numbers_have_the_types_that_programs_are_compiled_for() -> None:
    member = Member.of(_settings(seed=2**32 - 1, optimizer={"adam": {"learning_rate": 0.25}}))
    assert (member.seed.dtype, member.learning_rate.dtype) == (jnp.uint32, jnp.float32)
    assert int(member.seed) == 2**32 - 1
    assert float(member.learning_rate) == 0.25


def test_too_many_steps_for_the_counter_are_refused_and_the_key_named() -> None:
    most = 2**31 - 1
    for images, epochs, warmup, key in (
        (1, most, 0.0, None),
        (1, most + 1, 0.0, "epochs"),
        (2, most // 2, 0.0, None),
        (2, most // 2 + 1, 0.0, "epochs"),
        (1, 1, float(most), None),
        (1, 1, float(most + 1), "optimizer.schedule.warmup_epochs"),
    ):
        schedule = Schedule.model_construct(warmup_epochs=warmup)
        program = Program.of(_settings(batch_size=1), images=images, image_shape=SHAPE)
        optimizer = program.optimizer.model_copy(update={"schedule": schedule})
        program = dataclasses.replace(program, epochs=epochs, optimizer=optimizer)
        if key is None:
            program.check()
            continue
        with pytest.raises(ConfigError) as error:
            program.check()
        assert error.value.message.startswith(f"{key} {max(epochs, warmup):g}: ")
        assert f"2,147,483,647 steps, at {images} an epoch" in error.value.message
        assert f"lower {key}," in error.value.hint


def test_the_shapes_of_a_state_are_those_of_one_that_is_there() -> None:
    settings = _settings()
    program = Program.of(settings, images=40, image_shape=SHAPE)
    device = jax.devices()[0]
    state = compiled.init(program, Member.of(settings))
    for member in (Member.of(settings), jax.device_put(Member.of(settings), device)):
        shapes = compiled.shapes(program, member)
        pairs = zip(jax.tree.leaves(shapes), jax.tree.leaves(state), strict=True)
        for shape, leaf in pairs:
            assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
            assert shape.sharding == (member.seed.sharding if member.seed.committed else None)
        jax.tree.map(lambda *_: None, shapes, state)  # of one structure
    assert {shape.sharding.device_set.pop() for shape in jax.tree.leaves(shapes)} == {device}


class _Paced:
    """Fits without arithmetic: steps take so many seconds each, and step n sums to n."""

    STEPS = 40

    def __init__(self, patch: pytest.MonkeyPatch, seconds: float, broken: int = 0) -> None:
        self.clock, self.seconds, self.broken = 100.0, seconds, broken
        self.ahead: list[tuple[Any, ...]] = []
        self.validated: list[tuple[Any, ...]] = []
        patch.setattr(fitting, "time", types.SimpleNamespace(perf_counter=lambda: self.clock))
        patch.setattr(fitting, "compile_ahead", lambda *what: self.ahead.append(what))
        patch.setattr(compiled, "train_steps", self.train_steps)
        patch.setattr(compiled, "train_streamed_steps", self.train_steps)
        patch.setattr(evaluation, "split_means", self.split_means)
        self.program = Program.of(
            _settings(epochs=2, batch_size=1), images=self.STEPS, image_shape=SHAPE
        )

    def train_steps(self, *arguments: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        program, member, state, _, first, stop = arguments
        assert (program, member) == (self.program, MEMBER)
        self.clock += self.seconds * (stop - first)
        numbers = np.arange(first, stop)
        kl = np.zeros(self.STEPS)
        kl[numbers % self.STEPS] = np.where(numbers + 1 == self.broken, np.nan, numbers + 1)
        sums = {"kl": jnp.float32(kl), "nll": jnp.float32(2 * kl)}
        return state._replace(step=jnp.int32(stop)), sums

    def split_means(self, *arguments: Any) -> dict[str, float]:
        self.clock += 0.5
        assert arguments[:2] == (self.program.estimator, {})
        self.validated.append(arguments[3:])
        step = arguments[4]
        nll = np.nan if self.broken == -step else 1.0
        return {"elbo": -2.0, "kl": 1.0, "nll": nll}

    def fit(self, done: int = 0, *, host: bool = False, **before: Any) -> list[Chunk | Epoch]:
        state, images = TrainState({}, (), jnp.int32(done)), _images(self.STEPS)
        train, validation = np.asarray(images) if host else images, _images(3, 1)
        pieces = [*fit(self.program, MEMBER, Saved(state, **before), train, validation)]
        program, member, *splits = self.ahead[-1]
        assert (program, member) == (self.program, MEMBER)
        assert all(ours is own for ours, own in zip(splits, (train, validation), strict=True))
        assert [int(piece.state.step) for piece in pieces] == [piece.step for piece in pieces]
        return pieces


MEMBER = Member(jnp.uint32(3), jnp.float32(0.1))


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        # two seconds are 8 steps: what is left is cut in equal parts of no more
        (0.25, [1, 9, 17, 25, 33, 40, 48, 56, 64, 72, 80]),
        (0.3, [1, 7, 13, 19, 25, 30, 35, 40, 46, 52, 58, 64, 70, 75, 80]),
        (0.001, [1, 40, 80]),
        (5.0, [*range(1, 81)]),
    ],
)
def test_an_epoch_is_cut_by_the_pace_of_its_steps(
    seconds: float, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    paced = _Paced(monkeypatch, seconds)
    pieces = paced.fit()
    assert [piece.step for piece in pieces] == ends
    for piece in pieces:
        epoch = 1 + (piece.step - 1) // 40
        assert piece.epoch == epoch
        assert isinstance(piece, Epoch) == (piece.step == 40 * epoch)
        seen = range(40 * (epoch - 1) + 1, piece.step + 1)
        if isinstance(piece, Chunk):
            assert piece.beyond == len(seen)
            assert piece.sums == {"kl": sum(seen), "nll": 2 * sum(seen)}
            assert piece.seconds == pytest.approx(seconds * len(seen))
        else:
            mean = sum(seen) / 40
            assert piece.train == {"elbo": -3 * mean, "kl": mean, "nll": 2 * mean}
            assert piece.train_seconds == pytest.approx(40 * seconds)
            assert piece.validation_seconds == pytest.approx(0.5)
    assert paced.validated == [(MEMBER.seed, 40, 1.0), (MEMBER.seed, 80, 2.0)]


def test_no_more_steps_run_at_once_than_batches_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where images stay in host memory."""
    monkeypatch.setattr(fitting, "CHUNK_BYTES", 5 * PIXELS)
    pieces = _Paced(monkeypatch, 0.001).fit(host=True)
    ends = [1, *range(6, 37, 5), *range(40, 81, 5)]
    assert [piece.step for piece in pieces] == ends
    first = pieces[len(ends) - 9]
    assert isinstance(first, Epoch)
    assert first.train["kl"] == sum(range(1, 41)) / 40


def test_an_epoch_that_is_taken_up_goes_on_with_its_sums_and_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paced = _Paced(monkeypatch, 0.001)
    chunk, first, second = paced.fit(13, sums={"kl": 1000.0, "nll": 0.0}, seconds=7.0)
    assert isinstance(chunk, Chunk)
    assert (chunk.epoch, chunk.step, chunk.beyond) == (1, 14, 14)
    assert chunk.sums == {"kl": 1014.0, "nll": 28.0}
    assert chunk.seconds == pytest.approx(7.001)
    assert isinstance(first, Epoch)
    assert isinstance(second, Epoch)
    assert first.train["kl"] == (1000 + sum(range(14, 41))) / 40
    assert first.train_seconds == pytest.approx(7.027)
    assert second.train["kl"] == sum(range(41, 81)) / 40
    assert second.train_seconds == pytest.approx(0.04)
    # after an epoch's end the next one begins
    assert [(p.epoch, p.step) for p in paced.fit(40)] == [(2, 41), (2, 80)]
    assert paced.fit(80) == []


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        (57, "the ELBO is not finite at epoch 2, step 57$"),
        (1, "the ELBO is not finite at epoch 1, step 1$"),
        (-80, "the ELBO is not finite at epoch 2, step 80, on the validation split$"),
    ],
)
def test_what_is_not_finite_is_named_whichever_chunk_it_is_in(
    broken: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced = _Paced(monkeypatch, 0.25, broken)
    with pytest.raises(DivergedError, match=where):
        paced.fit()


def test_batches_from_host_memory_are_those_of_the_order_wherever_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Brought once each, in one shape, the next ones while the device computes."""
    program = Program.of(_settings(batch_size=2, epochs=3), images=9, image_shape=SHAPE)
    images = np.repeat(np.arange(9, dtype=np.uint8)[:, None], PIXELS, axis=1)
    monkeypatch.setattr(fitting, "CHUNK_BYTES", 3 * 2 * PIXELS)
    asked: list[int] = []
    met: list[np.ndarray] = []

    def rows(epoch: int) -> np.ndarray:
        return (np.arange(10, dtype=np.int32).reshape(5, 2) + np.int32(epoch)) % 9

    def order(*arguments: Any) -> np.ndarray:
        *what, epoch = arguments
        assert what == [program, MEMBER]
        asked.append(epoch)
        return rows(epoch)

    def train(*arguments: Any) -> tuple[Any, dict[str, jax.Array]]:
        *what, state, batches, first, stop = arguments
        assert what == [program, MEMBER]
        assert batches.shape == (3, 2, PIXELS)
        met.extend(np.asarray(batches)[: stop - first, :, 0])
        return state, {}

    monkeypatch.setattr(compiled, "order", order)
    monkeypatch.setattr(compiled, "train_streamed_steps", train)
    for start in range(15):
        asked.clear()
        met.clear()
        stream = fitting.Stream(program, MEMBER, images)
        done = start
        while done < 15:
            stop = min(done + 2, 5 * (done // 5 + 1))
            stream.train(TrainState({}, (), jnp.int32(done)), done, stop)
            done = stop
        np.testing.assert_array_equal(met, [rows(n // 5)[n % 5] for n in range(start, 15)])
        assert asked == [*range(start // 5, 4)]  # once an epoch


class _Reports(ELBO):
    """The ELBO, with another term."""

    term: str = "extra"
    highest: str = "elbo"

    @property
    def best(self) -> str:
        return self.highest

    def terms(self, *given: Any) -> tuple[Any, dict[str, Any]]:
        loss, terms = super().terms(*given)
        return loss, {**terms, self.term: loss}


@pytest.mark.parametrize(
    ("term", "best", "said"),
    [
        *((term, "elbo", repr(term)) for term in ("epoch", "step", "split", "seconds", "key")),
        *((term, "elbo", repr(term)) for term in ("kl/free", "", "KL", "a b", "a,b", "_a", "ä")),
        ("a" * 41, "elbo", "aaa"),
        ("extra", "exrta", "no 'exrta' among elbo, extra, kl, nll"),
        ("extra_1", "extra_1", None),
        ("elbo", "elbo", None),
        ("a" * 40, "elbo", None),
    ],
)
def test_names_of_terms_are_checked(term: str, best: str, said: str | None) -> None:
    program = Program.of(_settings(), images=35, image_shape=SHAPE)
    program = dataclasses.replace(program, objective=_Reports(term=term, highest=best))
    if said is None:
        assert term in training.columns(program)
        return
    with pytest.raises(ConfigError) as error:
        training.columns(program)
    assert "the objective elbo: " in error.value.message
    assert said in error.value.message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_step_that_is_not_finite_is_named(value: float) -> None:
    sums = {"kl": np.array([1.0, 1.0, 1.0, value]), "nll": np.array([1.0, 1.0, value, 1.0])}
    with pytest.raises(DivergedError, match=r"the IWAE is not finite at epoch 5, step 23$"):
        fitting.check_steps(sums, "iwae", 20, 5)
    fitting.check_steps({name: each[:2] for name, each in sums.items()}, "iwae", 20, 5)
    with pytest.raises(DivergedError, match="the ELBO is not finite at epoch 5, step 23, on the v"):
        fitting.check_held_out({"elbo": -1.0, "kl": value, "nll": 1.0}, "elbo", 23, 5)


def test_so_many_batches_travel_at_once_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = Program.of(_settings(), images=45, image_shape=SHAPE)
    for room, steps in ((1, 1), (10 * PIXELS, 1), (31 * PIXELS, 3), (1000 * PIXELS, 5)):
        monkeypatch.setattr(fitting, "CHUNK_BYTES", room)
        assert fitting.streamed_steps(program) == steps


def test_a_finite_bound_that_float32_cannot_improve_has_diverged() -> None:
    """SGD at z = 2 was seen to stay at -1e11 nats for 150 epochs."""
    fitting.check_held_out(with_elbo({"kl": 1e7, "nll": 100.0}), "elbo", 10, 1)
    with pytest.raises(
        DivergedError, match=r"the ELBO is -1.06e\+11 at epoch 1, step 10, on the val"
    ):
        fitting.check_held_out(with_elbo({"kl": 1.06e11, "nll": 207.0}), "elbo", 10, 1, -540.0)


def test_a_density_that_begins_as_low_has_not_diverged() -> None:
    """A Gaussian of 128 x 128 x 3 pixels with a scale of 0.01 was seen to begin at -4e7 nats."""
    means = with_elbo({"kl": 1e3, "nll": 4.2e7})
    fitting.check_held_out(means, "elbo", 10, 1, -4.3e7)
    fitting.check_held_out(means, "elbo", 10, 1)  # older checkpoints do not say how it began
    with pytest.raises(DivergedError, match="training diverged"):
        fitting.check_held_out(means, "elbo", 10, 1, -1e5)


def test_a_run_knows_how_its_epoch_began(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[float] = []
    check = fitting.check_held_out

    def noted(*known: Any) -> None:
        began.append(known[-1])
        check(*known)

    monkeypatch.setattr(fitting, "check_held_out", noted)
    epochs = _fit(_settings(epochs=2, batch_size=40))
    assert began == pytest.approx([epoch.train["elbo"] for epoch in epochs], rel=1e-5)


def test_a_short_batch_is_filled_up_with_different_images() -> None:
    """Their weight is zero, but batch normalization sees them."""
    program = Program.of(_settings(batch_size=5, epochs=3), images=11, image_shape=SHAPE)
    *whole, last = np.asarray(training.order(program, MEMBER, 1))
    assert sorted([*np.concatenate(whole), last[0]]) == list(range(11))
    assert len(set(last)) == 5


def test_a_start_compiles_four_programs(caplog: pytest.LogCaptureFixture) -> None:
    """Each further one costs a start 20 ms or more, as every `jnp.asarray` of a number would."""
    settings = _settings(model={"code_size": 3, "hidden_size": 7})  # which no other test compiles
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        program = Program.of(settings, images=40, image_shape=SHAPE)
        member = Member.of(settings)
        images = jax.device_put((np.zeros((40, PIXELS), np.uint8), np.zeros((9, PIXELS), np.uint8)))
        fitting.compile_ahead(program, member, *images)
        epochs = fit(program, member, Saved(compiled.init(program, member)), *images)
        mesh.copied(next(epoch for epoch in epochs if isinstance(epoch, Epoch)).state)
    found = {
        record.message.split()[1] for record in caplog.records if "Compiling" in record.message
    }
    programs = ("weights", "begin", "train_steps", "term_sums")
    assert found == {f"jit({name})" for name in programs}
