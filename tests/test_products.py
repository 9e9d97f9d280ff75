"""The gradients of convolution kernels as products of matrices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vaectl.base import shapes
from vaectl.base.products import in_fast_forms

_conv: Callable[..., jax.Array] = partial(
    lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")
)

LAYERS: dict[str, tuple[Callable[[jax.Array, jax.Array], jax.Array], tuple[int, ...], int]] = {
    "halving": (partial(_conv, window_strides=(2, 2), padding="SAME"), (3, 3, 2, 4), 9),
    "of stride 1": (partial(_conv, window_strides=(1, 1), padding="SAME"), (3, 3, 2, 4), 9),
    "without margins": (partial(_conv, window_strides=(1, 1), padding="VALID"), (5, 4, 2, 4), 20),
    "dilated": (
        partial(_conv, window_strides=(1, 2), padding=[(2, 0), (1, 3)], rhs_dilation=(2, 1)),
        (3, 2, 2, 4),
        6,
    ),
    "of a dilated image": (
        partial(_conv, window_strides=(1, 1), padding=[(1, 2), (0, 3)], lhs_dilation=(2, 3)),
        (3, 2, 2, 4),
        6,
    ),
    "transposed": (
        partial(lax.conv_transpose, strides=(2, 2), padding="SAME"),
        (3, 3, 2, 4),
        9,
    ),
    "channels first, and last in the result": (
        partial(
            lax.conv_general_dilated, window_strides=(2, 2), padding="SAME",
            dimension_numbers=("NCHW", "OIHW", "NHWC"),
        ),
        (4, 8, 2, 1), 2,
    ),
}  # fmt: skip
"""A convolution, the shape of its kernel, and the pixels of that."""


@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradient_of_a_kernel_is_a_product_for_each_of_its_pixels(kind: str) -> None:
    layer, shape, places = LAYERS[kind]
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((5, 8, 9, 2), shape))

    def gradient(w: jax.Array) -> jax.Array:
        found: jax.Array = jax.grad(lambda w: jnp.sum(layer(x, w) ** 2))(w)
        return found

    changed = in_fast_forms(gradient, bfloat16=False)
    np.testing.assert_allclose(changed(w), gradient(w), rtol=1e-5, atol=1e-4)
    found = [e.primitive.name for e in shapes.products(jax.make_jaxpr(changed)(w).jaxpr)]
    assert found == ["conv_general_dilated"] + ["dot_general"] * places
    # in a loop XLA's own is slow; under vmap these are products too
    several = jax.vmap(changed)(jnp.stack([w, 2 * w]))
    np.testing.assert_allclose(several[1], gradient(2 * w), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_elsewhere_than_on_a_cpu_convolutions_stay_convolutions(bfloat16: bool) -> None:
    layer, shape, _ = LAYERS["halving"]
    x, matrix = jnp.ones((5, 8, 9, 2)), jnp.ones((4, 3))
    gradient = jax.grad(lambda w: jnp.sum((layer(x, w) @ matrix) ** 2))
    traced = jax.jit(in_fast_forms(gradient, bfloat16=bfloat16)).trace(jnp.ones(shape))
    for platform, convolutions, loops in (("cpu", 1, 1), ("cuda", 2, 0), ("tpu", 2, 0)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution(") == convolutions
        assert text.count("stablehlo.while(") == loops
        assert ("LayoutConstraint" in text) == (bfloat16 and platform == "cpu")


@pytest.mark.parametrize("groups", [{"feature_group_count": 2}, {"batch_group_count": 5}])
def test_convolutions_in_groups_stay_as_they_are(groups: dict[str, int]) -> None:
    x = jnp.ones((5, 8, 9, 2))
    shape = (3, 3, 2 // groups.get("feature_group_count", 1), 10)

    def gradient(w: jax.Array) -> jax.Array:
        how: dict[str, Any] = {"window_strides": (1, 1), "padding": "SAME"}
        found: jax.Array = jax.grad(lambda w: jnp.sum(_conv(x, w, **how, **groups) ** 2))(w)
        return found

    program = jax.make_jaxpr(in_fast_forms(gradient, bfloat16=False))(jnp.ones(shape))
    found = [e.primitive.name for e in shapes.products(program.jaxpr)]
    assert found == ["conv_general_dilated"] * 2


@pytest.mark.parametrize("size", [3, 9])
def test_a_kernel_that_is_larger_than_the_image_is_no_exception(size: int) -> None:
    x, kernel = jnp.ones((6, 2, 2, 3)), jnp.ones((size, size, 3, 4))

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(_conv(x, w, window_strides=(1, 1), padding="SAME") ** 2)

    gradient = in_fast_forms(jax.grad(loss, argnums=(0, 1)), bfloat16=False)
    program = jax.make_jaxpr(gradient)(kernel, x)
    found = [e.primitive.name for e in shapes.products(program.jaxpr)]
    # forward, and for the image, as they were; by pixels of the kernel, for the kernel
    assert found.count("conv_general_dilated") == 2
    assert found.count("dot_general") == size**2
    for one, other in zip(gradient(kernel, x), jax.grad(loss, (0, 1))(kernel, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 8, 9, 2), (5, 2, 2, 2)])
def test_nothing_to_contract_is_no_error(shape: tuple[int, ...]) -> None:
    """No image, and no pixel that is left."""

    def loss(w: jax.Array) -> jax.Array:
        return jnp.sum(_conv(jnp.ones(shape), w, window_strides=(1, 1), padding="VALID") ** 2)

    found = in_fast_forms(jax.grad(loss), bfloat16=False)(jnp.ones((3, 3, 2, 4)))
    assert not found.any()


def test_a_step_without_convolutions_has_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    x, w, v = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((9, 7), (7, 5), (5, 7)))

    def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        first, second = weights
        return jnp.sum(jax.nn.softplus(jnp.tanh(x @ first) @ second) - x)

    plain, changed = jax.grad(loss), in_fast_forms(jax.grad(loss), bfloat16=False)
    for one, other in zip(jax.jit(plain)((w, v)), jax.jit(changed)((w, v)), strict=True):
        assert one.tobytes() == other.tobytes()


def test_one_window_at_a_time_is_in_memory() -> None:
    x, kernel = jnp.ones((50, 28, 28, 8)), jnp.ones((7, 7, 8, 8))

    def loss(w: jax.Array) -> jax.Array:
        return jnp.sum(_conv(x, w, window_strides=(1, 1), padding="SAME") ** 2)

    compiled = jax.jit(in_fast_forms(jax.grad(loss), bfloat16=False)).lower(kernel).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 8 * x.nbytes  # all 49 windows have 49 times as much
