import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vaectl import config
from vaectl.models import vae as model

pytestmark = pytest.mark.usefixtures("strict_types")


def _params(**settings: object) -> model.Params:
    return model.init(config.Model.model_validate(settings), 784, jax.random.key(0))


def test_sizes_follow_the_settings_and_the_data() -> None:
    params = _params(code_size=20, hidden_size=500)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes["encoder"]["hidden"] == {"kernel": (784, 500), "bias": (500,)}
    assert shapes["encoder"]["heads"] == {"kernel": (500, 40), "bias": (40,)}
    assert shapes["decoder"]["hidden"] == {"kernel": (20, 500), "bias": (500,)}
    assert shapes["decoder"]["logits"] == {"kernel": (500, 784), "bias": (784,)}


def test_weights_have_variance_one_over_fan_in_and_zero_biases_by_default() -> None:
    params = _params()
    weights = params["encoder"]["hidden"]["kernel"]
    np.testing.assert_allclose(jnp.var(weights), 1 / 784, rtol=0.02)
    assert not params["encoder"]["hidden"]["bias"].any()


def test_the_papers_initialization_is_uniform_within_its_limits() -> None:
    params = _params(weight_init="lecun_uniform", bias_init="unit_uniform")
    for layer in (params["encoder"]["hidden"], params["decoder"]["logits"]):
        limit = np.sqrt(3 / layer["kernel"].shape[0])
        assert 0.99 * limit < jnp.abs(layer["kernel"]).max() <= limit
        assert 0.98 * np.sqrt(3) < jnp.abs(layer["bias"]).max() <= np.sqrt(3)
        np.testing.assert_allclose(jnp.var(layer["bias"]), 1, rtol=0.15)


@pytest.mark.parametrize(("name", "function"), [("tanh", np.tanh), ("relu", lambda a: a * (a > 0))])
def test_forward_pass_is_two_layers_each_way(
    name: str, function: object, rng: np.random.Generator
) -> None:
    assert callable(function)
    settings = config.Model.model_validate({"code_size": 3, "hidden_size": 7, "activation": name})
    vae = model.VAE(settings, 12, rngs=nnx.Rngs(1))
    p = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(vae, nnx.Param)))
    x = rng.random((5, 12)).astype(np.float32)

    def layer(side: str, name: str, a: np.ndarray) -> np.ndarray:
        weights: np.ndarray = a @ p[side][name]["kernel"] + p[side][name]["bias"]
        return weights

    heads = layer("encoder", "heads", function(layer("encoder", "hidden", x)))
    mu, log_var = vae.encoder(jnp.asarray(x))
    np.testing.assert_allclose(mu, heads[:, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_var, heads[:, 3:], rtol=1e-5, atol=1e-6)
    logits = layer("decoder", "logits", function(layer("decoder", "hidden", heads[:, :3])))
    np.testing.assert_allclose(vae.decoder(mu), logits, rtol=1e-5, atol=1e-6)


def test_shapes_in_signatures_are_checked_in_tests() -> None:
    vae = model.VAE(config.Model(code_size=2, hidden_size=3), 6, rngs=nnx.Rngs(0))
    with pytest.raises(Exception, match="Type-check"):
        vae.encoder(jnp.zeros(6))
