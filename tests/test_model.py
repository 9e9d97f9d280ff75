import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from scipy import special

from tests.conftest import mlp
from vaectl.likelihoods.bernoulli import Bernoulli
from vaectl.likelihoods.gaussian import Gaussian
from vaectl.models._layers import Normalization, activation_of, relu
from vaectl.models.conv import Conv
from vaectl.models.mlp import MLP, unit_uniform
from vaectl.priors.standard_normal import StandardNormal
from vaectl.vae.networks import Residual
from vaectl.vae.vae import VAE, Variables

pytestmark = pytest.mark.usefixtures("strict_types")


def _variables(**settings: object) -> Variables:
    return mlp((28, 28, 1), **settings).init(jax.random.key(0))


def test_sizes_follow_the_settings_and_the_data() -> None:
    variables = _variables(code_size=20, hidden_size=500)
    shapes = jax.tree.map(jnp.shape, variables)
    assert shapes["encoder"]["hidden"] == {"kernel": (784, 500), "bias": (500,)}
    assert shapes["encoder"]["heads"] == {"kernel": (500, 40), "bias": (40,)}
    assert shapes["decoder"]["hidden"] == {"kernel": (20, 500), "bias": (500,)}
    assert shapes["decoder"]["logits"] == {"kernel": (500, 784), "bias": (784,)}


def test_layers_keep_their_names_in_checkpoints() -> None:
    variables = _variables(hidden_size=3, hidden_layers=3, code_size=2)
    assert set(variables["encoder"]) == {"hidden", "hidden_2", "hidden_3", "heads"}
    assert set(variables["decoder"]) == {"hidden", "hidden_2", "hidden_3", "logits"}


def test_a_network_splits_into_what_is_learned_and_what_is_kept() -> None:
    vae = mlp((2, 3, 1), code_size=2, hidden_size=3)
    vae = dataclasses.replace(vae, likelihood=Gaussian(scale="one"))
    variables = vae.init(jax.random.key(0))
    assert set(variables) == {"encoder", "decoder", "likelihood"}
    np.testing.assert_array_equal(variables["likelihood"], [0.0])
    learned, kept = vae.network(variables).split()
    jax.tree.map(np.testing.assert_array_equal, learned, variables)
    assert kept == {}
    joined = vae.network(learned, kept).variables
    jax.tree.map(np.testing.assert_array_equal, joined, variables)


def test_a_summary_names_the_layers_of_the_encoder() -> None:
    assert MLP().summary(20) == "500-20 relu"
    assert MLP(hidden_size=7, hidden_layers=2, activation="relu").summary(3) == "7-7-3 relu"


def test_uniform_biases_have_the_type_they_are_asked_for() -> None:
    key = jax.random.key(0)
    assert unit_uniform(key, (3,)).dtype == jnp.float32
    assert unit_uniform(key, (3,), jnp.float16).dtype == jnp.float16


def test_weights_have_variance_one_over_fan_in_and_zero_biases_by_default() -> None:
    variables = _variables()
    weights = variables["encoder"]["hidden"]["kernel"]
    np.testing.assert_allclose(jnp.var(weights), 1 / 784, rtol=0.02)
    assert not variables["encoder"]["hidden"]["bias"].any()


def test_the_papers_initialization_is_uniform_within_its_limits() -> None:
    variables = _variables(weight_init="lecun_uniform", bias_init="unit_uniform")
    for layer in (variables["encoder"]["hidden"], variables["decoder"]["logits"]):
        limit = np.sqrt(3 / layer["kernel"].shape[0])
        assert 0.99 * limit < jnp.abs(layer["kernel"]).max() <= limit
        assert 0.98 * np.sqrt(3) < jnp.abs(layer["bias"]).max() <= np.sqrt(3)
        np.testing.assert_allclose(jnp.var(layer["bias"]), 1, rtol=0.15)


@pytest.mark.parametrize(
    ("name", "function", "classes"), [("tanh", np.tanh, 4), ("relu", lambda a: a * (a > 0), 0)]
)
def test_forward_pass_is_two_layers_each_way(
    name: str, function: object, classes: int, rng: np.random.Generator
) -> None:
    """A class is one number, 2 for 4 of them, among zeros behind the pixels and the code."""
    assert callable(function)
    vae = mlp((4, 3, 1), code_size=3, hidden_size=7, activation=name)
    vae = dataclasses.replace(vae, classes=classes)
    variables = vae.init(jax.random.key(1))
    told = np.eye(classes, dtype=np.float32)[rng.integers(classes, size=5)] if classes else None
    network = vae.network(variables).given(None if told is None else jnp.asarray(told))
    p = jax.tree.map(np.asarray, variables)
    x = rng.random((5, 12)).astype(np.float32)

    def layer(side: str, name: str, a: np.ndarray) -> np.ndarray:
        if name == "hidden" and told is not None:
            a = np.concatenate([a, 2 * told], axis=1)
        weights: np.ndarray = a @ p[side][name]["kernel"] + p[side][name]["bias"]
        return weights

    heads = layer("encoder", "heads", function(layer("encoder", "hidden", x)))
    mu, log_var = network.encode(jnp.asarray(x.reshape(5, 4, 3, 1)))
    np.testing.assert_allclose(mu, heads[:, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_var, heads[:, 3:], rtol=1e-5, atol=1e-6)
    logits = layer("decoder", "logits", function(layer("decoder", "hidden", heads[:, :3])))
    np.testing.assert_allclose(
        network.decode(mu), logits.reshape(5, 4, 3, 1, 1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", lambda a: np.maximum(a, 0)),
        ("tanh", np.tanh),
        ("gelu", lambda a: a / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))),
        ("silu", lambda a: a * special.expit(a)),
        ("leaky_relu", lambda a: np.where(a > 0, a, 0.01 * a)),
        ("elu", lambda a: np.where(a > 0, a, np.expm1(a))),
    ],
)
def test_activation_functions_are_those_of_their_names(name: Any, expected: Any) -> None:
    a = np.linspace(-3, 3, 13, dtype=np.float32)
    found = jax.jit(activation_of(name))(a)
    np.testing.assert_allclose(found, expected(a), rtol=1e-5, atol=1e-6)


def test_a_rectifier_keeps_what_is_not_a_number_and_is_flat_at_zero() -> None:
    a = jnp.array([-np.inf, 0.0, 2.0, np.inf, np.nan])
    assert activation_of("relu") is relu
    np.testing.assert_array_equal(jax.jit(relu)(a), [0, 0, 2, np.inf, np.nan])
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.grad(relu)))(a[:3]), [0, 0, 1])


def test_batches_move_the_running_means_by_a_tenth(rng: np.random.Generator) -> None:
    vae = mlp((2, 3, 1), code_size=2, hidden_size=8, normalization="batch")
    network = vae.network(vae.init(jax.random.key(0)), training=True)
    x = jnp.asarray(rng.random((50, 2, 3, 1)), jnp.float32)
    kernel = network.variables["encoder"]["hidden"]["layers"][0]["kernel"]
    network.encode(x)
    _, kept = network.split()
    found = kept["encoder"]["hidden"]["layers"][1]
    h = np.asarray(x).reshape(50, 6) @ np.asarray(kernel)
    np.testing.assert_allclose(found["mean"], 0.1 * h.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * h.var(axis=0), rtol=1e-4)


def test_a_convolutional_network_halves_and_doubles_between_rectifiers() -> None:
    vae = VAE(Conv(channels=3, kernel_size=3), Bernoulli(), StandardNormal(), 4, (9, 5, 2))
    variables = vae.init(jax.random.key(0))
    network = vae.network(variables)
    down, up = (
        jax.tree.map(np.asarray, variables[side]["layers"]) for side in ("encoder", "decoder")
    )
    x = jax.random.normal(jax.random.key(1), (5, 9, 5, 2))

    def convolved(h: Any, layer: Any, of: Any) -> Any:
        how = {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return np.asarray(of(h, layer["kernel"], (2, 2), **how)) + layer["bias"]

    def dense(h: Any, layer: Any) -> Any:
        return h @ layer["kernel"] + layer["bias"]

    h = x
    for layer, channels in ((down[0], 3), (down[2], 6)):
        assert layer["bias"].shape == (channels,)
        h = np.maximum(convolved(h, layer, lax.conv_general_dilated), 0)
    assert h.shape == (5, 3, 2, 6)  # a quarter, rounded up
    mu, log_var = map(np.asarray, jax.jit(network.encode)(x))
    expected = dense(h.reshape(5, -1), down[5])
    np.testing.assert_allclose(np.concatenate([mu, log_var], 1), expected, rtol=1e-4, atol=1e-5)
    h = np.maximum(dense(mu, up[0]), 0).reshape(5, 3, 2, 6)
    h = np.maximum(convolved(h, up[3], lax.conv_transpose), 0)
    h = convolved(h, up[5], lax.conv_transpose)[:, :9, :5]
    raw = jax.jit(network.decode)(mu)
    np.testing.assert_allclose(raw, h[..., np.newaxis], rtol=1e-4, atol=1e-5)


def test_a_residual_block_adds_its_input_before_the_activation() -> None:
    x = jnp.linspace(-2, 2, 9)
    block = Residual(jnp.tanh, nnx.Sequential(lambda x: 2 * x))
    np.testing.assert_allclose(block(x), np.tanh(3 * x), rtol=1e-5)


def test_more_halvings_and_blocks_are_more_layers_of_the_sizes_that_follow() -> None:
    model = Conv(channels=3, layers=3, residual_blocks=2, normalization="layer")
    vae = VAE(model, Bernoulli(), StandardNormal(), 2, (28, 28, 1))
    variables = jax.eval_shape(vae.init, jax.random.key(0))
    shapes = [leaf.shape for leaf in jax.tree.leaves(variables["encoder"])]
    expected = []
    for wide, narrow in ((1, 3), (3, 6), (6, 12)):
        expected += [(3, 3, wide, narrow), *[(3, 3, narrow, narrow)] * 4]
    assert sorted(shape for shape in shapes if len(shape) == 4) == sorted(expected)
    assert [shape for shape in shapes if len(shape) == 2] == [(4 * 4 * 12, 4)]
    raw = jax.eval_shape(lambda v: vae.network(v).decode(jnp.zeros((5, 2))), variables)
    assert raw.shape == (5, 28, 28, 1, 1)


@pytest.mark.parametrize(
    ("model", "biases"),
    [
        # in the order of their names: heads, hidden; hidden, logits
        (MLP(hidden_size=3, normalization="batch"), ([True, False], [False, True])),
        (MLP(hidden_size=3, normalization="layer"), ([True, True], [True, True])),
        (
            Conv(channels=3, normalization="batch"),
            ([False, False, True], [True, False, True]),
        ),
    ],
)
def test_a_layer_before_batch_normalization_has_no_bias(
    model: MLP | Conv, biases: tuple[list[bool], list[bool]]
) -> None:
    vae = VAE(model, Bernoulli(), StandardNormal(), 2, (4, 4, 1))
    variables = jax.eval_shape(vae.init, jax.random.key(0))

    def found(part: Any) -> list[bool]:
        if "kernel" in part:
            return ["bias" in part]
        inner = [part[name] for name in sorted(part) if isinstance(part[name], dict)]
        return [each for layer in inner for each in found(layer)]

    assert (found(variables["encoder"]), found(variables["decoder"])) == biases


def test_a_hidden_layer_is_normalized_before_its_activation(rng: np.random.Generator) -> None:
    vae = mlp((2, 3, 1), code_size=2, hidden_size=8, normalization="layer", activation="silu")
    variables = vae.init(jax.random.key(0))
    x = rng.random((4, 6)).astype(np.float32)
    network, variables = vae.network(variables), jax.tree.map(np.asarray, variables)
    linear = variables["encoder"]["hidden"]["layers"][0]
    h = x @ linear["kernel"] + linear["bias"]
    h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-6)
    heads = variables["encoder"]["heads"]
    expected = h / (1 + np.exp(-h)) @ heads["kernel"] + heads["bias"]
    found = np.concatenate(jax.jit(network.encode)(x.reshape(4, 2, 3, 1)), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "factor"), [({"dropout": 0.25}, 0.25 / 0.75), ({"input_noise": 0.3}, 0.09)]
)
def test_dropout_and_noise_act_in_training_alone(settings: Any, factor: float) -> None:
    """The variance that they add to a linear encoder; its mean stays."""
    vae = mlp((1, 1, 1), code_size=1, hidden_size=1, bias_init="zeros", **settings)
    variables = vae.init(jax.random.key(0))
    # what draws in training leaves the first weights as they are without it
    plain = mlp((1, 1, 1), code_size=1, hidden_size=1).init(jax.random.key(0))
    assert variables["decoder"]["hidden"]["kernel"] == plain["decoder"]["hidden"]["kernel"]
    for path in (("encoder", "hidden"), ("encoder", "heads")):  # a weight of 1 each
        layer = variables[path[0]][path[1]]
        layer = layer["layers"][1] if "layers" in layer else layer
        layer["kernel"] = jnp.ones_like(layer["kernel"])
    x = jnp.ones((20_000, 1, 1, 1))
    trained, rested = (vae.network(variables, training=how).encode(x)[0] for how in (True, False))
    np.testing.assert_array_equal(rested, 1)
    np.testing.assert_allclose(jnp.mean(trained), 1, atol=0.02)
    np.testing.assert_allclose(jnp.var(trained), factor, rtol=0.05)


def test_a_model_says_what_is_different_in_training() -> None:
    given = MLP(), MLP(dropout=0.1), MLP(input_noise=0.1), Conv()
    assert [model.draws for model in given] == [False, True, True, False]
    names: tuple[Normalization, ...] = ("none", "batch", "layer")
    for kind in (MLP, Conv):
        found = [kind(normalization=name).averages_batches for name in names]
        assert found == [False, True, False]


@pytest.mark.parametrize("count", [1, 3])
def test_units_of_every_hidden_layer_are_dropped(count: int) -> None:
    model = MLP(hidden_size=3, hidden_layers=count, dropout=0.25)
    vae = VAE(model, Bernoulli(), StandardNormal(), 2, (2, 2, 1))
    network = nnx.eval_shape(lambda: vae._build(nnx.Rngs(0)))
    layers = [layer for _, layer in nnx.iter_graph(network) if isinstance(layer, nnx.Dropout)]
    assert [layer.rate for layer in layers] == [0.25] * 2 * count


def test_shapes_in_signatures_are_checked_in_tests() -> None:
    vae = mlp((2, 3, 1), code_size=2, hidden_size=3)
    network = vae.network(vae.init(jax.random.key(0)))
    with pytest.raises(Exception, match="Type-check"):
        network.encode(jnp.zeros(6))
