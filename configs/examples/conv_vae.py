"""A model of your own: a convolutional VAE with batch normalization, as a plug.

    vaectl train --plugin configs/examples/conv_vae.py --model tiny_conv --epochs 10
    vaectl sample latest --plugin configs/examples/conv_vae.py

It trains for ten seconds on two cores; the run directory is like any other. run.json records this
file's SHA-256; commands that load the run need `--plugin`.
"""

import math

import jax
from flax import nnx

from vaectl.models.base import ImageShape, Model
from vaectl.vae.networks import AutoEncoder


class TinyConv(Model, name="tiny_conv"):
    """An encoder with one convolution and batch normalization; a decoder with one hidden layer."""

    channels: int = 16
    """Channels of the convolution; `--set model.channels=32` changes them."""

    def build(
        self, image_shape: ImageShape, code_size: int, outputs: int, rngs: nnx.Rngs
    ) -> nnx.Module:
        """Build the encoder and the decoder, with new parameters."""
        height, width, colours = image_shape
        size = -(-height // 2) * -(-width // 2) * self.channels
        encoder = nnx.Sequential(
            nnx.Conv(colours, self.channels, (3, 3), strides=(2, 2), rngs=rngs),
            nnx.BatchNorm(self.channels, momentum=0.9, rngs=rngs),
            jax.nn.relu,
            lambda x: x.reshape(x.shape[0], -1),
            nnx.Linear(size, 2 * code_size, rngs=rngs),  # mean and log-variance of q(z|x)
        )
        decoder = nnx.Sequential(
            nnx.Linear(code_size, 200, rngs=rngs),
            jax.nn.relu,
            nnx.Linear(200, math.prod(image_shape) * outputs, rngs=rngs),
        )
        return AutoEncoder(encoder, decoder, (*image_shape, outputs))
