import contextlib
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import Vaectl
from vaectl import config
from vaectl.optimizers._matrices import when
from vaectl.optimizers._schedule import Schedule
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.optimizers.adam import scale_by_uncorrected_adam
from vaectl.optimizers.base import Optimizer
from vaectl.training.program import traceable

OPTIMIZERS = tuple(Optimizer.known)
PAPER = {
    "weight_decay": 5e-4,
    "bias_learning_rate_scale": 2.0,
    "adam": {"bias_correction": False},
    "rmsprop": {"gradient": "sum", "decay": 0.9, "eps": 1e-4},
    "adagrad": {"gradient": "sum", "initial_accumulator": 0.0, "eps": 1e-4},
    "sgd": {"decay_in_momentum": True, "reset_each_epoch": True},
}
Tree = dict[str, dict[str, jax.Array]]
Arrays = list[np.ndarray]


def _settings(name: str, **more: object) -> OptimizerChoice:
    return config.Config.model_validate({"optimizer": {"name": name, **more}}).optimizer


def _params(rng: np.random.Generator) -> Tree:
    return {
        "layer": {
            "kernel": jnp.float32(rng.normal(size=(3, 4))),
            "bias": jnp.float32(rng.normal(size=4)),
        }
    }


def _run(
    settings: OptimizerChoice,
    params: Tree,
    gradient: Callable[[Tree, int], Tree],
    steps: int,
    rate: float,
) -> Tree:
    transform = settings.direction()
    traces = []

    @jax.jit
    def update(gradient: Tree, state: optax.OptState, params: Tree) -> tuple[Tree, optax.OptState]:
        traces.append(1)
        return transform.update(gradient, state, params)  # type: ignore[no-any-return]

    state = transform.init(params)
    for t in range(steps):
        direction, state = update(gradient(params, t), state, params)
        params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
    assert len(traces) == 1  # compiled once
    return params


def test_every_optimizer_of_the_configuration_has_a_rule() -> None:
    assert {*_settings("adam").sections()} == {*OPTIMIZERS} >= {"adam", "rmsprop", "adagrad", "sgd"}
    for name in OPTIMIZERS:
        assert isinstance(_settings(name).chosen.rule(), optax.GradientTransformation)


FEW = ("adam", "muon", "prodigy", "schedule_free_adamw", "sgd", "soap")


@pytest.mark.parametrize(
    "name",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.full) for name in OPTIMIZERS],
)
def test_numbers_may_be_traced(name: str, rng: np.random.Generator) -> None:
    """A search over them compiles once, and finds what each of them comes to."""
    plain = _settings(name)
    keys = traceable(plain, (*type(plain.chosen).model_fields, "weight_decay"))
    assert {"weight_decay", "b1", "b2"} & {*type(plain.chosen).model_fields, "weight_decay"} <= {
        *keys
    }
    values = {key: 0.8 * plain.value(key) or 0.01 for key in keys}
    other = plain.with_values(values)
    assert other != plain
    assert other.without(keys) == plain.without(keys)
    params = [_params(rng) for _ in range(3)]

    def ended(settings: OptimizerChoice) -> Tree:
        state = settings.direction().init(params[0])
        for gradient in params:
            direction, state = settings.direction().update(gradient, state, params[0])
        return cast("Tree", direction)

    traced = jax.jit(lambda numbers: ended(plain.with_values(numbers)))
    found = traced({key: jnp.float32(value) for key, value in values.items()})
    expected = jax.jit(lambda: ended(other))()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6), found, expected)


def test_a_number_that_a_rule_asks_a_question_of_is_not_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rule(self: Any) -> optax.GradientTransformation:
        return optax.scale(self.momentum if self.momentum.is_integer() else 1.0)

    plain = _settings("sgd", momentum=0.123)
    monkeypatch.setattr(type(plain.chosen), "rule", rule)
    assert traceable(plain, ("momentum", "weight_decay")) == ("weight_decay",)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "protocol",
    [{}, PAPER, PAPER | {"weight_decay_on": "weights"}],
    ids=["optax", "paper", "paper, no decay of biases"],
)
class TestContract:
    """What holds for every optimizer."""

    def test_descends(self, name: str, protocol: dict[str, object]) -> None:
        start = {
            "layer": {"kernel": jnp.full(3, jnp.float32(2)), "bias": jnp.full(2, jnp.float32(-1.5))}
        }
        settings = _settings(name, **{**protocol, "weight_decay": 0.0})
        end = _run(settings, start, lambda p, _: p, 50, settings.chosen.learning_rate)
        assert optax.tree.norm(end) < optax.tree.norm(start)

    def test_keeps_types_and_structure(
        self, name: str, protocol: dict[str, object], rng: np.random.Generator
    ) -> None:
        params = _params(rng)
        transform = _settings(name, **protocol).direction()
        before = jax.eval_shape(transform.init, params)
        direction, after = jax.eval_shape(transform.update, params, before, params)
        assert direction == jax.eval_shape(lambda: params)
        assert after == before


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", optax.adam(1e-3)),
        ("rmsprop", optax.rmsprop(1e-3)),
        ("adagrad", optax.adagrad(1e-2)),
        ("sgd", optax.sgd(5e-4, momentum=0.9)),
    ],
)
def test_defaults_are_those_of_optax(
    name: str, reference: optax.GradientTransformation, rng: np.random.Generator
) -> None:
    settings = _settings(name)
    if name == "rmsprop":  # Optax's own default is 0.9 too
        assert settings.rmsprop.decay == 0.9
    params = _params(rng)
    gradients = [_params(rng) for _ in range(5)]
    ours = _run(settings, params, lambda _, t: gradients[t], 5, settings.chosen.learning_rate)
    state = reference.init(params)
    for gradient in gradients:
        updates, state = reference.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, params)


def _paper_by_hand(
    name: str, theta: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float
) -> np.ndarray:
    """The update rules of the authors' code, line by line."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for g in gradients:
        if name == "adam":
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            theta = theta - rate * (m / (np.sqrt(v) + 1e-8) + decay * theta)
        elif name == "rmsprop":
            v = 0.9 * v + 0.1 * g**2
            theta = theta - rate * (g / np.sqrt(v + 1e-4) + decay * theta)
        elif name == "adagrad":
            v = v + g**2
            theta = theta - rate * (g / np.sqrt(v + 1e-4) + decay * theta)
        else:
            m = 0.9 * m + rate * (g + decay * theta)
            theta = theta - m
    return theta


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad", "sgd"])
@pytest.mark.parametrize(("decayed", "of_biases"), [("all", 1.0), ("weights", 0.0)])
def test_the_papers_rules_match_a_plain_transcription(
    name: str, decayed: str, of_biases: float, rng: np.random.Generator
) -> None:
    """A large weight decay, so that a parameter which it leaves out stands out."""
    params = _params(rng)
    gradients = [_params(rng) for _ in range(20)]
    settings = _settings(name, **PAPER | {"weight_decay": 5.0, "weight_decay_on": decayed})
    rate = settings.chosen.learning_rate
    ours = _run(settings, params, lambda _, t: gradients[t], 20, rate)
    for leaf, scale, decay in (("kernel", 1.0, 5.0), ("bias", 2.0, 5.0 * of_biases)):
        expected = _paper_by_hand(
            name,
            np.asarray(params["layer"][leaf], np.float64),
            [np.asarray(g["layer"][leaf], np.float64) for g in gradients],
            rate * scale,  # biases learn twice as fast
            decay,
        )
        np.testing.assert_allclose(ours["layer"][leaf], expected, rtol=1e-5, atol=1e-6)


def _corrected(moment: np.ndarray, decay: float, t: int) -> np.ndarray:
    return np.asarray(moment / (1 - decay**t))


def _adam_by_hand(
    s: Any, gradients: Arrays, _: Arrays, *, correct: bool = True
) -> Iterator[np.ndarray]:
    m = v = np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        m, v = s.b1 * m + (1 - s.b1) * g, s.b2 * v + (1 - s.b2) * g**2
        first, second = m, v
        if s.nesterov:
            late = _corrected(m, s.b1, t + 1) if correct else m
            first = s.b1 * late + (1 - s.b1) * (_corrected(g, s.b1, t) if correct else g)
        elif correct:
            first = _corrected(m, s.b1, t)
        if correct:
            second = _corrected(v, s.b2, t)
        yield first / (np.sqrt(second + s.eps_root) + s.eps)


def _plain_adam(
    s: Any, gradients: Arrays, thetas: Arrays, *, nesterov: bool = False
) -> Iterator[np.ndarray]:
    """As `_adam_by_hand` with the settings of another optimizer."""
    settings = types.SimpleNamespace(b1=s.b1, b2=s.b2, eps=s.eps, eps_root=0.0, nesterov=nesterov)
    return _adam_by_hand(settings, gradients, thetas)


def _adamw_by_hand(
    s: Any, gradients: Arrays, thetas: Arrays, *, nesterov: bool = False
) -> Iterator[np.ndarray]:
    directions = _plain_adam(s, gradients, thetas, nesterov=nesterov)
    for direction, theta in zip(directions, thetas, strict=True):
        yield direction + s.decay * theta


def _lamb_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    for r, theta in zip(_adamw_by_hand(s, gradients, thetas), thetas, strict=True):
        size = np.linalg.norm(theta)
        yield r * size / np.linalg.norm(r) if size else r


def _adabelief_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    m = spread = np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        m = s.b1 * m + (1 - s.b1) * g
        spread = s.b2 * spread + (1 - s.b2) * (g - m) ** 2 + s.eps_root
        yield _corrected(m, s.b1, t) / (np.sqrt(_corrected(spread, s.b2, t)) + s.eps)


def _rmsprop_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    m = trace = np.zeros_like(gradients[0])
    v = np.full_like(m, s.initial_scale)
    for t, g in enumerate(gradients, 1):
        m, v = s.decay * m + (1 - s.decay) * g, s.decay * v + (1 - s.decay) * g**2
        first, second = (
            _corrected(moment, s.decay, t) if s.bias_correction else moment for moment in (m, v)
        )
        square = second - first**2 if s.centered else second
        scaled = g / (np.sqrt(square + s.eps) if s.eps_in_root else np.sqrt(square) + s.eps)
        trace = scaled + s.momentum * trace
        yield scaled + s.momentum * trace if s.nesterov else trace


def _adagrad_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    for seen in range(1, len(gradients) + 1):
        total = s.initial_accumulator + sum(g**2 for g in gradients[:seen])
        yield gradients[seen - 1] / np.sqrt(total + s.eps)


def _adafactor_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    factored = gradients[0].ndim == 2 and min(gradients[0].shape) >= s.factor_from
    rows = columns = v = np.zeros(())
    for t, (g, theta) in enumerate(zip(gradients, thetas, strict=True), 1):
        b, square = 1 - t**-s.decay_exponent, g**2 + s.eps
        if factored:
            rows = b * rows + (1 - b) * square.sum(1)
            columns = b * columns + (1 - b) * square.sum(0)
            v = np.outer(rows, columns) / rows.sum()
        else:
            v = b * v + (1 - b) * square
        u = g / np.sqrt(v)
        u = u / max(1, np.sqrt((u**2).mean()) / s.clip)
        yield u * max(1e-3, np.sqrt((theta**2).mean())) if s.relative else u


def _adopt_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    m, v = np.zeros_like(gradients[0]), gradients[0] ** 2
    yield m
    for t, g in enumerate(gradients[1:], 1):
        scaled = g / np.maximum(np.sqrt(v), s.eps)
        m = s.b1 * m + (1 - s.b1) * (np.clip(scaled, -(t**0.25), t**0.25) if s.clip else scaled)
        yield m
        v = s.b2 * v + (1 - s.b2) * g**2


def _ademamix_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    m = slow = v = np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        part, b3 = 1.0, s.b3
        if t < s.warmup_steps:
            part = t / s.warmup_steps
            fast, late = np.log(s.b1), np.log(s.b3)
            b3 = np.exp(fast * late / ((1 - part) * late + part * fast))
        m, v = s.b1 * m + (1 - s.b1) * g, s.b2 * v + (1 - s.b2) * g**2
        slow = b3 * slow + (1 - b3) * g
        divisor = np.sqrt(_corrected(v, s.b2, t)) + s.eps
        yield (_corrected(m, s.b1, t) + part * s.alpha * slow) / divisor


def _prodigy_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    m = v = total = np.zeros_like(gradients[0])
    came, d, b3 = 0.0, s.initial, np.sqrt(s.b2)
    for t, (g, theta) in enumerate(zip(gradients, thetas, strict=True), 1):
        m, v = s.b1 * m + (1 - s.b1) * d * g, s.b2 * v + (1 - s.b2) * d**2 * g**2
        rate = np.sqrt(1 - s.b2**t) / (1 - s.b1**t)
        came = b3 * came + (1 - b3) * rate * d**2 * (g @ (thetas[0] - theta))
        total = b3 * total + (1 - b3) * rate * d**2 * g
        before, d = d, max(d, s.growth * came / np.abs(total).sum())
        yield rate * before * (m / (np.sqrt(v) + d * s.eps) + s.decay * theta)


def _dog_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    far, total = s.initial * (1 + np.linalg.norm(thetas[0])), s.eps
    for g, theta in zip(gradients, thetas, strict=True):
        far, total = max(far, np.linalg.norm(theta - thetas[0])), total + g @ g
        yield far / np.sqrt(total) * g


def _schedule_free_by_hand(
    s: Any, rates: Sequence[float], gradients: Iterable[np.ndarray], y: np.ndarray, decay: float = 0
) -> Iterator[Arrays]:
    """The paper's three sequences; the last two of them, x and y, after each step."""
    x, z, v, total = y, y, np.zeros_like(y), 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        d = g + decay * y
        if s.name == "schedule_free_adamw":
            v = s.b2 * v + (1 - s.b2) * g**2
            d = g / (np.sqrt(_corrected(v, s.b2, t)) + s.eps) + (s.decay + decay) * y
        z = z - rate * d
        total += rate**2
        c = rate**2 / total
        x = (1 - c) * x + c * z
        y = (1 - s.b1) * z + s.b1 * x
        yield [x, y]


def _step_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    y = thetas[0]
    for _, after in _schedule_free_by_hand(s, [RATE] * len(gradients), gradients, y):
        yield (y - after) / RATE
        y = after


def _sgd_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    m = np.zeros_like(gradients[0])
    for g in gradients:
        m = g + s.momentum * m
        yield g + s.momentum * m if s.nesterov else m


def _lion_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    m = np.zeros_like(gradients[0])
    for g in gradients:
        yield np.sign(s.b1 * m + (1 - s.b1) * g)
        m = s.b2 * m + (1 - s.b2) * g


def _muon_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    if gradients[0].ndim != 2:
        yield from _plain_adam(s, gradients, thetas, nesterov=True)
        return
    m = np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        m = s.beta * m + (1 - s.beta) * g
        late = _corrected(m, s.beta, t + 1)
        x = s.beta * late + (1 - s.beta) * _corrected(g, s.beta, t)
        x = x / (np.linalg.norm(x) + s.eps)
        for _ in range(s.newton_schulz_steps):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        yield 0.2 * np.sqrt(max(x.shape)) * x


def _soap_by_hand(s: Any, gradients: Arrays, thetas: Arrays) -> Iterator[np.ndarray]:
    if gradients[0].ndim != 2:
        yield from _plain_adam(s, gradients, thetas)
        return
    m = v = np.zeros_like(gradients[0])
    sides = [np.zeros((length, length)) for length in m.shape]
    turns = [np.eye(length) for length in m.shape]
    for t, g in enumerate(gradients):
        direction = m
        if t:
            p, q = turns
            m, v = s.b1 * m + (1 - s.b1) * g, s.b2 * v + (1 - s.b2) * (p.T @ g @ q) ** 2
            turned = p.T @ _corrected(m, s.b1, t) @ q
            direction = p @ (turned / (np.sqrt(_corrected(v, s.b2, t)) + s.eps)) @ q.T
        yield direction
        for axis, square in enumerate((g @ g.T, g.T @ g)):
            sides[axis] = s.b2 * sides[axis] + (1 - s.b2) * square
            if len(square) <= s.max_side and t % s.every == 0:
                order = np.argsort(-np.diag(turns[axis].T @ sides[axis] @ turns[axis]))
                one = np.linalg.qr(sides[axis] @ turns[axis][:, order])[0]
                turns[axis] = one if t else np.linalg.eigh(sides[axis])[1][:, ::-1]
                v = v[order] if axis == 0 else v[:, order]


def _shampoo_by_hand(s: Any, gradients: Arrays, _: Arrays) -> Iterator[np.ndarray]:
    direction = np.zeros_like(gradients[0])
    if direction.ndim != 2:
        for t, g in enumerate(gradients, 1):
            scale = np.sqrt(s.eps + sum(g**2 for g in gradients[:t]))
            direction = s.momentum * direction + g / scale
            yield direction
        return
    sides = [s.eps * np.eye(length) for length in direction.shape]
    roots = [np.eye(length) for length in direction.shape]
    for t, g in enumerate(gradients):
        for axis, square in enumerate((g @ g.T, g.T @ g)):
            long = len(square) > s.max_side
            sides[axis] = sides[axis] + (np.diag(np.diag(square)) if long else square)
            if t < s.every or t % s.every == 0 or long:
                values, vectors = np.linalg.eigh(sides[axis])
                roots[axis] = vectors @ np.diag(values**-0.25) @ vectors.T
        direction = s.momentum * direction + roots[0] @ g @ roots[1]
        yield direction


RATE = 0.3
Rule = Callable[[Any, Arrays, Arrays], Iterator[np.ndarray]]
"""From settings, and gradients and parameters of all steps, to directions."""
ADAM = {"b1": 0.8, "b2": 0.95, "eps": 0.1}
RULES: list[tuple[str, dict[str, object], Rule]] = [
    ("adabelief", {**ADAM, "eps_root": 0.05}, _adabelief_by_hand),
    ("adafactor", {"decay_exponent": 0.5, "clip": 0.9, "eps": 0.1}, _adafactor_by_hand),
    ("adafactor", {"relative": False, "factor_from": 4}, _adafactor_by_hand),
    ("adagrad", {"initial_accumulator": 0.7, "eps": 0.2}, _adagrad_by_hand),
    ("adam", {**ADAM, "eps_root": 0.05}, _adam_by_hand),
    ("adam", {**ADAM, "nesterov": True}, _adam_by_hand),
    (
        "adam",
        {**ADAM, "eps_root": 0.05, "bias_correction": False},
        partial(_adam_by_hand, correct=False),
    ),
    (
        "adam",
        {"b1": 0.8, "b2": 0.95, "nesterov": True, "bias_correction": False},
        partial(_adam_by_hand, correct=False),
    ),
    ("adamw", {**ADAM, "decay": 0.3}, _adamw_by_hand),
    ("ademamix", {**ADAM, "b3": 0.97, "alpha": 2.0}, _ademamix_by_hand),
    ("ademamix", {**ADAM, "b3": 0.97, "alpha": 2.0, "warmup_steps": 4}, _ademamix_by_hand),
    ("adopt", {"b1": 0.8, "b2": 0.9, "eps": 0.3}, _adopt_by_hand),
    ("adopt", {"b1": 0.8, "b2": 0.9, "clip": False}, _adopt_by_hand),
    ("dog", {"initial": 0.01, "eps": 0.1}, _dog_by_hand),
    ("lamb", {**ADAM, "decay": 0.3}, _lamb_by_hand),
    ("lion", {"b1": 0.6, "b2": 0.9}, _lion_by_hand),
    (
        "muon",
        {"beta": 0.8, "newton_schulz_steps": 3, "eps": 0.3, "b1": 0.7, "b2": 0.9},
        _muon_by_hand,
    ),
    ("nadamw", {**ADAM, "decay": 0.3}, partial(_adamw_by_hand, nesterov=True)),
    ("prodigy", {**ADAM, "initial": 0.01, "growth": 2.0, "decay": 0.3}, _prodigy_by_hand),
    ("rmsprop", {"decay": 0.8, "eps": 0.1, "initial_scale": 0.3}, _rmsprop_by_hand),
    ("rmsprop", {"decay": 0.8, "eps": 0.1, "eps_in_root": False}, _rmsprop_by_hand),
    ("rmsprop", {"decay": 0.8, "bias_correction": True, "momentum": 0.7}, _rmsprop_by_hand),
    (
        "rmsprop",
        {"decay": 0.8, "eps": 0.2, "centered": True, "momentum": 0.7, "nesterov": True},
        _rmsprop_by_hand,
    ),
    (
        "schedule_free_adamw",
        {"b1": 0.8, "b2": 0.95, "eps": 0.1, "decay": 0.3},
        _step_by_hand,
    ),
    ("schedule_free_sgd", {"b1": 0.8}, _step_by_hand),
    ("sgd", {"momentum": 0.7}, _sgd_by_hand),
    ("sgd", {"momentum": 0.7, "nesterov": True}, _sgd_by_hand),
    ("shampoo", {"momentum": 0.7, "eps": 0.1, "every": 2}, _shampoo_by_hand),
    ("shampoo", {"eps": 0.1, "every": 4, "max_side": 3}, _shampoo_by_hand),
    ("soap", {**ADAM, "every": 2}, _soap_by_hand),
    ("soap", {**ADAM, "every": 1, "max_side": 3}, _soap_by_hand),
]
OF_ALL_PARAMETERS: tuple[Rule, ...] = (_dog_by_hand, _prodigy_by_hand)
"""Rules whose scale is of all parameters together, not of each array."""


def test_a_parameter_without_gradients_is_never_divided_by_zero(rng: np.random.Generator) -> None:
    """As of a pixel that is always black: with the least constants that each optimizer takes."""
    for name in OPTIMIZERS:
        fields = type(_settings(name).chosen).model_fields
        own: dict[str, float] = {key: 0.0 for key in ("eps", "eps_root") if key in fields}
        settings = _settings(name, **{name: own | ({"eps": 1e-12} if own else {})})
        with contextlib.suppress(ValueError):  # refused
            settings = _settings(name, **{name: own})
        transform, params = settings.direction(), _params(rng)
        state = transform.init(params)
        gradient = _params(rng)
        gradient["layer"]["kernel"] = gradient["layer"]["kernel"].at[0].set(0.0)
        for _ in range(2):
            direction, state = jax.jit(transform.update)(gradient, state, params)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(direction)), name


@pytest.mark.parametrize("name", ["adam", "adabelief", "soap"])
def test_a_divisor_that_may_be_zero_is_refused(name: str) -> None:
    nothing = {name: dict.fromkeys(("eps", "eps_root")[: 2 - (name == "soap")], 0.0)}
    with pytest.raises(ValueError, match=f"optimizer.{name}"):
        _settings(name, **nothing)


def test_a_corrected_variance_is_refused() -> None:
    with pytest.raises(ValueError, match="bias_correction and centered"):
        _settings("rmsprop", rmsprop={"centered": True, "bias_correction": True})
    other = {"centered": True, "bias_correction": True}
    assert _settings("adam", rmsprop=other).name == "adam"  # which is not used


def test_every_optimizer_has_a_transcription() -> None:
    assert {name for name, _, _ in RULES} == {*OPTIMIZERS}


@pytest.mark.parametrize(("name", "changes", "rule"), RULES)
def test_a_rule_with_all_its_settings_matches_numpy_step_by_step(
    name: str, changes: dict[str, object], rule: Rule, rng: np.random.Generator
) -> None:
    settings = _settings(name, **{name: changes})
    params, transform = _params(rng), settings.direction()
    update = jax.jit(transform.update)
    state = transform.init(params)
    gradients, thetas, found = [], [], []
    for _ in range(8):  # towards the origin, with noise
        gradient = jax.tree.map(lambda p, noise: p + noise, params, _params(rng))
        direction, state = update(gradient, state, params)
        gradients.append(gradient)
        thetas.append(params)
        found.append(direction)
        params = jax.tree.map(lambda p, d: p - RATE * d, params, direction)

    def leaves(tree: Tree) -> Arrays:
        arrays = [np.asarray(tree["layer"][leaf], np.float64) for leaf in ("kernel", "bias")]
        return [np.concatenate([*map(np.ravel, arrays)])] if rule in OF_ALL_PARAMETERS else arrays

    ours, *given = (zip(*map(leaves, trees), strict=True) for trees in (found, gradients, thetas))
    for leaf, of_leaf, at in zip(ours, *given, strict=True):
        for step, expected in zip(leaf, rule(settings.chosen, [*of_leaf], [*at]), strict=True):
            np.testing.assert_allclose(step, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "own"),
    [("schedule_free_adamw", {"b2": 0.95, "decay": 0.1}), ("schedule_free_sgd", {"b1": 0.95})],
)
def test_schedule_free_trains_at_y_and_is_evaluated_at_x(
    name: str, own: dict[str, float], rng: np.random.Generator
) -> None:
    """With a warm-up, which weighs the average, and with all that optimizers share."""
    shared = {"weight_decay": 0.5, "weight_decay_on": "weights", "bias_learning_rate_scale": 2.0}
    settings = _settings(name, **shared, **{name: own}, schedule={"warmup_epochs": 0.5})
    chosen, transform = settings.chosen, settings.direction()
    scale = settings.schedule.scale(steps_per_epoch=10, steps=12)
    update, params = jax.jit(transform.update), _params(rng)
    state, rate = transform.init(params), jnp.float32(0.2)
    gradients, found = [], [(params, chosen.evaluated(params, state, rate))]
    for t in range(12):
        gradients.append(jax.tree.map(lambda p, noise: p + noise, params, _params(rng)))
        factor = scale(jnp.asarray(t))
        direction, state = update(gradients[-1], state, params, schedule=factor)
        params = jax.tree.map(lambda p, d, s=factor: p - rate * s * d, params, direction)
        found.append((params, chosen.evaluated(params, state, rate)))
    for leaf, scaled, decay in (("kernel", 1.0, 0.5), ("bias", 2.0, 0.0)):
        rates = [0.2 * scaled * min(1, (t + 1) / 5) for t in range(12)]
        of_leaf = [np.asarray(gradient["layer"][leaf], np.float64) for gradient in gradients]
        (y, x), *rest = [[np.asarray(tree["layer"][leaf]) for tree in pair] for pair in found]
        np.testing.assert_array_equal(x, y)
        expected = _schedule_free_by_hand(chosen, rates, of_leaf, y.astype(np.float64), decay)
        for pair, theirs in zip(rest, expected, strict=True):
            np.testing.assert_allclose(pair[::-1], theirs, rtol=2e-5, atol=1e-6)
        assert abs(np.subtract(*rest[-1])).max() > 0.01


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_moving_average_is_evaluated_and_changes_no_step(
    name: str, rng: np.random.Generator
) -> None:
    shared = {"weight_decay": 0.5, "bias_learning_rate_scale": 2.0}
    plain, settings = _settings(name, **shared), _settings(name, **shared, ema=0.8)
    assert (plain.averages, settings.averages) == (False, True)
    params = start = _params(rng)
    rate = jnp.float32(0.2)
    transforms = [each.direction() for each in (plain, settings)]
    states = [transform.init(params) for transform in transforms]
    found = settings.evaluated(params, states[1], rate)
    jax.tree.map(np.testing.assert_array_equal, found, start)
    average = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start)
    for t in range(60):
        gradient, factor = _params(rng), jnp.float32(1 / (1 + t))
        steps = []
        for place, transform in enumerate(transforms):
            direction, states[place] = transform.update(
                gradient, states[place], params, schedule=factor
            )
            steps.append(direction)
        jax.tree.map(np.testing.assert_array_equal, *steps)
        params = jax.tree.map(lambda p, d, s=factor: p - rate * s * d, params, steps[0])
        c = min(0.8, (1 + t) / (10 + t))
        average = jax.tree.map(lambda x, p, c=c: c * x + (1 - c) * np.asarray(p), average, params)
        found = settings.evaluated(params, states[1], rate)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, average)


def test_a_moving_average_is_the_only_one(vaectl: Vaectl) -> None:
    for options in (
        ("--optimizer", "schedule_free_sgd"),
        ("--optimizer", "sgd", "--set", "optimizer.reset_each_epoch=true"),
    ):
        answer = vaectl("train", *options, "--set", "optimizer.ema=0.9")
        assert answer.code == 2
        assert "ema 0.9" in answer.err
    assert traceable(_settings("adam", ema=0.9), ("b1", "ema")) == ("b1",)


def test_an_average_takes_the_place_of_a_schedule(vaectl: Vaectl) -> None:
    """Refused where the configuration is read; a warm-up is none."""
    Path("e.yaml").write_text("optimizer: {name: schedule_free_sgd, schedule: {name: cosine}}")
    answer = vaectl("config", "validate", "e.yaml")
    assert answer.code == 2
    assert "optimizer.schedule.name" in answer.err
    again = ("--set", "optimizer.schedule.name=constant", "--set")
    more = "optimizer.schedule.warmup_epochs=1"
    assert vaectl("config", "show", "e.yaml", *again, more).code == 0
    several = ("--optimizers", "adam,schedule_free_sgd", "--set", "optimizer.schedule.name=cosine")
    assert vaectl("compare-optimizers", *several).code == 2
    Path("c.yaml").write_text(
        "base: {epochs: 1}\n"
        "optimizers: [adam, {name: schedule_free_sgd, schedule: {name: cosine}}]\n"
    )
    answer = vaectl("compare-optimizers", "c.yaml")
    assert answer.code == 2
    assert "optimizer.schedule.name" in answer.err
    assert not Path("runs").exists()


def test_adamw_is_adam_and_its_decay(rng: np.random.Generator) -> None:
    """By its own `decay`, as `adam` with `weight_decay`; its moments and `eps` are its own too."""
    own = {"b1": 0.8, "b2": 0.95, "eps": 0.1}
    params, gradients = _params(rng), [_params(rng) for _ in range(6)]
    adamw, adam = (
        _run(settings, params, lambda _, t: gradients[t], 6, 0.1)
        for settings in (
            _settings("adamw", adamw={**own, "decay": 0.3}),
            _settings("adam", adam=own, weight_decay=0.3),
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), adamw, adam)
    without = _run(_settings("adam", adam=own), params, lambda _, t: gradients[t], 6, 0.1)
    assert abs(without["layer"]["kernel"] - adam["layer"]["kernel"]).max() > 0.01


@pytest.mark.parametrize("due", [[False, False], [True, True]])
def test_members_compute_what_is_due_and_nothing_else(due: list[bool]) -> None:
    """As `lax.cond` does for one; for several it would compute both branches."""
    computed = []

    def one(due: jax.Array, kept: jax.Array) -> jax.Array:
        def compute() -> jax.Array:
            jax.debug.callback(lambda: computed.append(1))
            return kept + 1

        return when(due, compute, kept)

    kept = jnp.arange(2.0)
    found = jax.jit(jax.vmap(one))(jnp.array(due), kept)
    jax.effects_barrier()  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(found, kept + np.array(due))
    assert bool(computed) == any(due)


@pytest.mark.full
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_members_step_together_as_alone(name: str, rng: np.random.Generator) -> None:
    transform = _settings(name).direction()
    members = [_params(rng) for _ in range(2)]
    states = [transform.init(params) for params in members]

    def run(params: Tree, state: Any, rate: jax.Array) -> Tree:
        def body(t: int, carry: tuple[Tree, Any]) -> tuple[Tree, Any]:
            params, state = carry
            gradient = jax.tree.map(lambda p: p + jnp.sin(t + p), params)
            direction, state = transform.update(gradient, state, params)
            return jax.tree.map(lambda p, d: p - rate * d, params, direction), state

        end: Tree = jax.lax.fori_loop(0, 25, body, (params, state))[0]
        return end

    rates = jnp.array([1e-3, 2e-3])
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in (members, states)]
    together = jax.jit(jax.vmap(run))(*stacked, rates)
    alone = [jax.jit(run)(*each) for each in zip(members, states, rates, strict=True)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, together, expected)


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("nesterov", [False, True])
def test_uncorrected_adam_under_a_constant_gradient_has_a_standard(
    steps: int, nesterov: bool
) -> None:
    g = np.array([0.5, -2.0, 1e-3])
    gradient = {"kernel": jnp.float32(g)}
    transform = scale_by_uncorrected_adam(0.9, 0.999, 1e-8, nesterov=nesterov)
    state = transform.init(gradient)
    for _ in range(steps):
        direction, state = transform.update(gradient, state)
    # after n steps the moments are 1 - b^n times the gradient and its square
    first, second = 1 - 0.9 ** (steps + nesterov), 1 - 0.999**steps
    expected = first * g / (np.sqrt(second * g**2) + 1e-8)
    np.testing.assert_allclose(direction["kernel"], expected, rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm() -> None:
    settings = _settings("sgd", clip_norm=1.0, sgd={"momentum": 0.0})
    gradient = {"layer": {"kernel": jnp.array([3.0]), "bias": jnp.array([4.0])}}
    transform = settings.direction()
    direction, _ = transform.update(gradient, transform.init(gradient), gradient)
    np.testing.assert_allclose(direction["layer"]["kernel"], [0.6], rtol=1e-6)
    np.testing.assert_allclose(direction["layer"]["bias"], [0.8], rtol=1e-6)


def _scale(step: int, **settings: object) -> float:
    schedule = Schedule.model_validate(settings).scale(steps_per_epoch=10, steps=100)
    return float(schedule(jnp.asarray(step)))


def test_schedules_have_the_shape_that_they_say() -> None:
    assert [_scale(t) for t in (0, 50, 99)] == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(
        [_scale(t, name="cosine", final=0.1) for t in (0, 50, 100)], [1.0, 0.55, 0.1], rtol=1e-6
    )
    np.testing.assert_allclose(
        [_scale(t, warmup_epochs=2.0) for t in (0, 9, 19, 20, 60)], [0.05, 0.5, 1, 1, 1], rtol=1e-6
    )
    np.testing.assert_allclose(
        [_scale(t, name="cosine", warmup_epochs=2.0) for t in (4, 20, 60, 100)],
        [0.25, 1.0, 0.5, 0.0],
        atol=1e-6,
    )
    # a warm-up of one step, and one that leaves a single step to fall
    assert _scale(0, warmup_epochs=0.1) == 1.0
    assert [_scale(t, name="cosine", warmup_epochs=9.9) for t in (99, 100)] == [1.0, 0.0]


def test_a_bias_is_known_by_its_name_however_deep_it_stands() -> None:
    params = {
        "bias": {"deep": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}},
        "bias_of_another": jnp.ones(2),
    }
    settings = _settings(
        "sgd",
        weight_decay=10.0,
        weight_decay_on="weights",
        bias_learning_rate_scale=3.0,
        sgd={"momentum": 0.0},
    )
    transform = settings.direction()
    direction, _ = transform.update(params, transform.init(params), params)
    expected = {
        "bias": {"deep": {"kernel": 11 * jnp.ones(2), "bias": 3 * jnp.ones(2)}},
        "bias_of_another": 11 * jnp.ones(2),
    }
    jax.tree.map(np.testing.assert_array_equal, direction, expected)


def test_soap_takes_no_leap_when_it_renews_its_eigenvectors(rng: np.random.Generator) -> None:
    """Each renewal orders them and their second moments alike: no step is larger than Adam's."""
    transform = _settings("soap", every=10).direction()
    update = jax.jit(transform.update)
    params = {"layer": {"kernel": jnp.zeros((20, 20))}}
    state = transform.init(params)
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    mean, largest = rng.normal(size=(20, 20)), 0.0
    for _ in range(80):
        # gradients of very different sizes along directions that are not those of the entries
        drawn = np.logspace(0, -5, 20)[:, None] * (mean + rng.normal(size=(20, 20)))
        gradient = {"layer": {"kernel": jnp.float32(turn @ drawn)}}
        direction, state = update(gradient, state, params)
        largest = max(largest, float(jnp.sqrt(jnp.mean(direction["layer"]["kernel"] ** 2))))
    # out of order, this is 31
    assert largest < 1.1
