"""PyTorch as examples have it: a `DataLoader`, probabilities, plain Adam, `.item()` at each step.

A linear layer for each head.
"""

import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.benchmarks.peers.pytorch import DEVICE, elbo, floats, initialize
from tests.benchmarks.peers.worker import Epoch
from vaectl import config, data
from vaectl.models.base import ModelChoice


class VAE(nn.Module):
    def __init__(self, settings: ModelChoice, pixels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(pixels, settings.mlp.hidden_size)
        self.mu = nn.Linear(settings.mlp.hidden_size, settings.code_size)
        self.log_var = nn.Linear(settings.mlp.hidden_size, settings.code_size)
        self.decoder_hidden = nn.Linear(settings.code_size, settings.mlp.hidden_size)
        self.probabilities = nn.Linear(settings.mlp.hidden_size, pixels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.hidden(x))
        return self.mu(h), self.log_var(h)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        std = torch.exp(0.5 * log_var)
        return mu + std * torch.randn_like(std)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.probabilities(torch.tanh(self.decoder_hidden(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, log_var = self.encode(x)
        return self.decode(self.reparameterize(mu, log_var)), mu, log_var


def train(settings: config.Config, dataset: data.Dataset) -> Iterator[Epoch]:
    torch.manual_seed(settings.seed)
    images, validation = floats(dataset.train.flat), floats(dataset.validation.flat)
    loader = DataLoader(TensorDataset(images.cpu()), batch_size=settings.batch_size, shuffle=True)
    model = VAE(settings.model, math.prod(dataset.image_shape)).to(DEVICE)
    initialize(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.optimizer.adam.learning_rate)

    def loss_of(x: Tensor) -> Tensor:
        reconstruction, mu, log_var = model(x)
        nll = F.binary_cross_entropy(reconstruction, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        return (nll + kl) / len(x)

    for _ in range(settings.epochs):
        start, total = time.perf_counter(), 0.0
        for (x,) in loader:
            optimizer.zero_grad()
            loss = loss_of(x.to(DEVICE))
            loss.backward()
            total += loss.item()
            optimizer.step()
        seconds = time.perf_counter() - start
        yield Epoch(seconds, elbo(loss_of, validation))
