"""PyTorch, written for speed: data in one tensor, logits, the fused Adam, no `.item()` in the loop.

Both heads are one linear layer, as in vaectl.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from tests.benchmarks.peers.worker import PLACE, Epoch
from vaectl import config, data
from vaectl.data.stored import Stored
from vaectl.models.base import ModelChoice

DEVICE = {"cpu": "cpu", "gpu": "cuda"}[os.environ.get(PLACE, "cpu")]

Loss: TypeAlias = Callable[[Tensor], Tensor]
"""The negative ELBO of a batch, mean over its images."""


class VAE(nn.Module):
    def __init__(self, settings: ModelChoice, pixels: int) -> None:
        super().__init__()
        hidden, code = settings.mlp.hidden_size, settings.code_size
        self.encoder = nn.Sequential(
            nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, 2 * code)
        )
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.Tanh(), nn.Linear(hidden, pixels))

    def loss(self, x: Tensor) -> Tensor:
        # float32 already, but for autocast
        mu, log_var = self.encoder(x).float().chunk(2, dim=-1)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        logits = self.decoder(z).float()
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * torch.sum(mu.square() + log_var.exp() - 1 - log_var)
        return (nll + kl) / len(x)


def train(
    settings: config.Config,
    dataset: data.Dataset,
    compiled: Callable[[Loss], Loss] = lambda loss: loss,
    *,
    bfloat16: bool = False,
) -> Iterator[Epoch]:
    torch.manual_seed(settings.seed)
    images, validation = floats(dataset.train.flat), floats(dataset.validation.flat)
    model = VAE(settings.model, math.prod(dataset.image_shape)).to(DEVICE)
    initialize(model)
    loss = compiled(model.loss)
    rate = settings.optimizer.adam.learning_rate
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    for _ in range(settings.epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(images), device=DEVICE).split(settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=bfloat16):
                losses = loss(images.index_select(0, rows))
            losses.backward()
            optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        yield Epoch(seconds, elbo(model.loss, validation))


def floats(images: np.ndarray | Stored) -> Tensor:
    """Pixels 0 to 255 as a tensor of numbers in [0, 1]."""
    return torch.from_numpy(np.asarray(images)).to(DEVICE).float() / 255


def initialize(model: nn.Module) -> None:
    """Initial weights as vaectl's: variance 1/fan-in, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)


def elbo(loss: Loss, images: Tensor) -> float:
    """Mean over all images, of a loss that is a mean over a batch."""
    with torch.no_grad():
        total = sum(float(loss(x)) * len(x) for x in images.split(1000))
    return -total / len(images)
