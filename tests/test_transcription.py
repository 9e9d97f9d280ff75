"""Training and validation against a transcription in NumPy: in float64, with gradients by hand.

It shares no code with vaectl but the way in which a key follows from seed, name and step, and that
is spelled out here too. So a step that met the wrong images, weights, noise or rate shows.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from vaectl import config
from vaectl.base import streams
from vaectl.evaluation import means as evaluation
from vaectl.training import compiled
from vaectl.training import step as training
from vaectl.training.fit import Epoch, Saved, fit
from vaectl.training.program import Member, Program

SHAPE = (4, 3, 1)
PIXELS, COUNT, BATCH, EPOCHS, SEED = 12, 23, 5, 3, 7
STEPS = -(-COUNT // BATCH)
RATES = {"adam": 3e-3, "rmsprop": 2e-3, "adagrad": 2e-2, "sgd": 5e-3}

Arrays = dict[str, np.ndarray]


def _settings(name: str, **changes: Any) -> config.Config:
    paper: dict[str, dict[str, Any]] = {
        "adam": {"bias_correction": False},
        "rmsprop": {"gradient": "sum", "decay": 0.9, "eps": 1e-4},
        "adagrad": {"gradient": "sum", "initial_accumulator": 0.0, "eps": 1e-4},
        "sgd": {"decay_in_momentum": True, "reset_each_epoch": True},
    }
    base: dict[str, Any] = {
        "seed": SEED,
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "model": {
            "code_size": 3,
            "hidden_size": 6,
            "activation": "tanh",
            "bias_init": "unit_uniform",
        },
        "optimizer": {
            "name": name,
            "weight_decay": 0.5,
            "bias_learning_rate_scale": 2.0,
            name: {**paper[name], "learning_rate": RATES[name]},
            **changes.pop("optimizer", {}),
        },
    }
    return config.Config.model_validate({**base, **changes})


def _grey(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, PIXELS)).astype(np.uint8)


def _key(name: str, step: int) -> jax.Array:
    """Key of a stream at a step, as release 0.1 had it."""
    named = jax.random.fold_in(jax.random.key(SEED), zlib.crc32(name.encode()))
    return jax.random.fold_in(named, step)


def _normal(key: jax.Array, samples: int, images: int) -> np.ndarray:
    return np.asarray(jax.random.normal(key, (samples, images, 3)), np.float64)


def _forward(p: Arrays, x: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
    h = np.tanh(x @ p["w1"] + p["b1"])
    mu, log_var = np.split(h @ p["w2"] + p["b2"], 2, axis=-1)
    z = mu + np.exp(log_var / 2) * noise
    g = np.tanh(z @ p["v1"] + p["c1"])
    logits = g @ p["v2"] + p["c2"]
    kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=-1)
    nll = (np.logaddexp(0, logits) - x * logits).sum(axis=-1).mean(axis=0)
    return h, mu, log_var, z, g, logits, kl, nll


def _gradient(
    p: Arrays, x: np.ndarray, noise: np.ndarray, norm: float
) -> tuple[Arrays, list[float]]:
    """Gradient of the sum of KL + NLL over `norm`, and both sums: backpropagation by hand."""
    h, mu, log_var, z, g, logits, kl, nll = _forward(p, x, noise)
    d_logits = (special.expit(logits) - x) / len(noise) / norm
    d_g = (d_logits @ p["v2"].T) * (1 - g**2)
    d_z = d_g @ p["v1"].T
    d_mu = d_z.sum(axis=0) + mu / norm
    d_log_var = (d_z * noise * np.exp(log_var / 2) / 2).sum(axis=0) + np.expm1(log_var) / 2 / norm
    d_heads = np.concatenate([d_mu, d_log_var], axis=-1)
    d_h = (d_heads @ p["w2"].T) * (1 - h**2)
    gradient = {
        "w1": x.T @ d_h,
        "b1": d_h.sum(axis=0),
        "w2": h.T @ d_heads,
        "b2": d_heads.sum(axis=0),
        "v1": np.einsum("sbi,sbj->ij", z, d_g),
        "c1": d_g.sum(axis=(0, 1)),
        "v2": np.einsum("sbi,sbj->ij", g, d_logits),
        "c2": d_logits.sum(axis=(0, 1)),
    }
    return gradient, [kl.sum(), nll.sum()]


def _rule(name: str, g: np.ndarray, theta: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Direction of a parameter by the authors' code, weight decay included; m and v change."""
    decay = 0.5 * theta
    if name == "adam":
        m[...] = 0.9 * m + 0.1 * g
        v[...] = 0.999 * v + 0.001 * g**2
        return np.asarray(m / (np.sqrt(v) + 1e-8) + decay)
    if name == "rmsprop":
        v[...] = 0.9 * v + 0.1 * g**2
        return np.asarray(g / np.sqrt(v + 1e-4) + decay)
    if name == "adagrad":
        v[...] = v + g**2
        return np.asarray(g / np.sqrt(v + 1e-4) + decay)
    m[...] = 0.9 * m + g + decay
    return m


def _schedule(settings: config.Config, step: int) -> float:
    schedule = settings.optimizer.schedule
    warmup, steps = round(schedule.warmup_epochs * STEPS), EPOCHS * STEPS
    if step < warmup:
        return (step + 1) / warmup
    if schedule.name == "constant":
        return 1.0
    fallen = (1 - np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
    return float(1 - (1 - schedule.final) * fallen)


def _flat(params: Any) -> Arrays:
    """Parameters under short names, as float64."""
    layers = {
        ("w1", "b1"): params["encoder"]["hidden"],
        ("w2", "b2"): params["encoder"]["heads"],
        ("v1", "c1"): params["decoder"]["hidden"],
        ("v2", "c2"): params["decoder"]["logits"],
    }
    return {
        name: np.asarray(layer[part], np.float64)
        for names, layer in layers.items()
        for name, part in zip(names, ("kernel", "bias"), strict=True)
    }


def _transcribed(settings: config.Config, p: Arrays, images: np.ndarray) -> Iterator[list[float]]:
    """Train `p` in place; yield the mean KL and NLL of each epoch."""
    name = settings.optimizer.name
    stochastic = settings.data.binarization == "stochastic"
    samples = settings.objective.samples
    m, v = ({key: np.zeros_like(leaf) for key, leaf in p.items()} for _ in range(2))
    step = 0
    for epoch in range(EPOCHS):
        if name == "sgd":
            m = {key: np.zeros_like(leaf) for key, leaf in p.items()}
        order = np.asarray(jax.random.permutation(_key("shuffle", epoch), COUNT))
        total = np.zeros(2)
        for start in range(0, COUNT, BATCH):
            rows = order[start : start + BATCH]
            # a short batch is filled up before its numbers are drawn
            filled = np.pad(rows, (0, BATCH - len(rows)))
            x = images[filled] / 255
            if stochastic:
                grey = jnp.asarray(x, jnp.float32)
                x = np.asarray(jax.random.bernoulli(_key("binarize", step), grey), np.float64)
            noise = _normal(_key("noise", step), samples, BATCH)[:, : len(rows)]
            x = x[: len(rows)]
            summed = name in ("rmsprop", "adagrad")
            gradient, sums = _gradient(p, x, noise, 1.0 if summed else len(rows))
            rate = RATES[name] * _schedule(settings, step)
            for key, g in gradient.items():
                scale = 2.0 if key[0] in "bc" else 1.0
                p[key] = p[key] - rate * scale * _rule(name, g, p[key], m[key], v[key])
            total += sums
            step += 1
        yield (total / COUNT).tolist()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("adam", {}, marks=pytest.mark.full),
        ("adam", {"optimizer": {"schedule": {"name": "cosine", "warmup_epochs": 0.6}}}),
        ("rmsprop", {"data": {"binarization": "stochastic"}, "objective": {"samples": 3}}),
        ("adagrad", {"optimizer": {"schedule": {"name": "cosine", "final": 0.2}}}),
        ("sgd", {"objective": {"samples": 2}}),
    ],
    ids=["adam", "adam, warm-up", "rmsprop, stochastic, L = 3", "adagrad, cosine", "sgd, L = 2"],
)
def test_training_is_what_the_transcription_does(name: str, changes: dict[str, Any]) -> None:
    settings = _settings(name, **changes)
    stochastic = settings.data.binarization == "stochastic"
    images = _grey(COUNT, 0) if stochastic else _grey(COUNT, 0) // 128 * 255
    held_out = _grey(9, 1) // 128 * 255
    program = Program.of(settings, images=COUNT, image_shape=SHAPE)
    member = Member.of(settings)
    state = compiled.init(program, member)
    p = _flat(state.params)
    transcribed = _transcribed(settings, p, images)
    ended = 0
    for event in fit(program, member, Saved(state), jnp.asarray(images), jnp.asarray(held_out)):
        if not isinstance(event, Epoch):
            continue
        ended += 1
        trained = event.train["kl"], event.train["nll"]
        np.testing.assert_allclose(trained, next(transcribed), rtol=1e-4)
        for key, leaf in _flat(event.state.params).items():
            np.testing.assert_allclose(leaf, p[key], rtol=1e-3, atol=1e-4, err_msg=key)
        # validation: its noise by the step and by where its batch begins
        stream = jax.random.fold_in(_key("evaluate", event.step), 0)
        noise = _normal(stream, settings.objective.samples, len(held_out))
        *_, kl, nll = _forward(p, held_out / 255, noise)
        validated = event.validation["kl"], event.validation["nll"]
        np.testing.assert_allclose(validated, (kl.mean(), nll.mean()), rtol=1e-3)
    assert ended == EPOCHS


def test_the_first_weights_follow_from_the_seed_by_their_own_stream() -> None:
    settings = _settings("sgd")
    program = Program.of(settings, images=COUNT, image_shape=SHAPE)
    state = compiled.init(program, Member.of(settings))
    assert (state.step.dtype, int(state.step)) == (jnp.int32, 0)
    ours, theirs = _flat(state.params), _flat(program.vae.init(_key("init", 0)))
    other = _flat(compiled.init(program, Member.of(_settings("sgd", seed=SEED + 1))).params)
    for name, leaf in ours.items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=1e-6)
        assert (leaf != other[name]).all()


def test_an_epoch_is_a_new_permutation_of_all_images() -> None:
    program = Program.of(_settings("adam"), images=COUNT, image_shape=SHAPE)
    member = Member.of(_settings("adam"))
    orders = [np.asarray(compiled.order(program, member, epoch)).ravel() for epoch in range(20)]
    for order in orders:
        assert sorted(order[:COUNT]) == list(range(COUNT))
        assert list(order[COUNT:]) == list(order[: len(order) - COUNT])  # at weight zero
    places = np.array([np.argsort(order[:COUNT]) for order in orders])
    # where an image stands in one epoch says nothing of where it stands in the next
    correlation = np.corrcoef(places[:-1].ravel(), places[1:].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(places[1:].size)
    other = Member.of(_settings("adam", seed=SEED + 1))
    assert (np.asarray(compiled.order(program, other, 0)).ravel() != orders[0]).any()


def test_noise_is_normal_and_independent_between_steps_samples_images_and_dimensions() -> None:
    settings = _settings("adam", batch_size=50, objective={"samples": 4})
    program = Program.of(settings, images=100, image_shape=SHAPE)
    member = Member.of(settings)
    drawn = np.stack([training.noise(program, member, step) for step in range(40)])
    assert drawn.shape == (40, 4, 50, 3)
    error = 4 / np.sqrt(drawn.size)
    assert abs(drawn.mean()) < error
    assert abs(drawn.var() - 1) < 2 * error
    for axis in range(4):
        size = drawn.shape[axis]
        one, following = drawn.take(range(size - 1), axis), drawn.take(range(1, size), axis)
        assert abs((one * following).mean()) < 4 / np.sqrt(one.size), axis


def test_validation_noise_differs_between_steps_batches_and_parts() -> None:
    """Batches of the same images differ; a split in parts has the numbers of a whole one."""
    settings = _settings("adam")
    program = Program.of(settings, images=COUNT, image_shape=SHAPE)
    member = Member.of(settings)
    params = compiled.init(program, member).params
    estimator = replace(program.estimator, batch_size=11)
    images = np.tile(_grey(11, 3), (2, 1))

    def sums(step: int, first: int = 0) -> dict[str, np.ndarray]:
        part = jnp.asarray(images)
        found = evaluation.compiled_sums(
            estimator, params, part, member.seed, step, 0.0, first, len(images)
        )
        return {name: np.asarray(values) for name, values in found.items()}

    nll = sums(5)["nll"]
    assert nll[0] != nll[1]
    assert (sums(6)["nll"] != nll).all()
    assert sums(5, first=11)["nll"][0] == nll[1]
    np.testing.assert_array_equal(sums(5)["kl"], sums(6)["kl"])


def test_the_key_of_a_stream_is_spelled_out_here() -> None:
    ours, theirs = _key("noise", 3), streams.key(SEED, "noise", 3)
    assert jax.random.key_data(ours).tolist() == jax.random.key_data(theirs).tolist()
