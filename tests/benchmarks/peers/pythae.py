"""pythae: its VAE and its trainer, with an encoder and a decoder of our own as it documents them.

A linear layer for each head, as in its own MLP. `BaseTrainer.train` runs all epochs in one call;
its `train_step` is one epoch of it, without the copy that it keeps of the best model.
"""

import contextlib
import io
import logging
import math
import tempfile
import time
from collections.abc import Iterator

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from tests.benchmarks.peers.pytorch import elbo, floats, initialize
from tests.benchmarks.peers.worker import Epoch
from vaectl import config, data
from vaectl.models.base import ModelChoice


class Encoder(BaseEncoder):
    def __init__(self, settings: ModelChoice, pixels: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(pixels, settings.mlp.hidden_size), nn.Tanh())
        self.mu = nn.Linear(settings.mlp.hidden_size, settings.code_size)
        self.log_var = nn.Linear(settings.mlp.hidden_size, settings.code_size)

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.hidden(x)
        return ModelOutput(embedding=self.mu(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    def __init__(self, settings: ModelChoice, pixels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(settings.code_size, settings.mlp.hidden_size),
            nn.Tanh(),
            nn.Linear(settings.mlp.hidden_size, pixels),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


def train(settings: config.Config, dataset: data.Dataset) -> Iterator[Epoch]:
    logging.disable(logging.INFO)  # what it tells its user, on the way to our table
    torch.manual_seed(settings.seed)
    images, validation = floats(dataset.train.flat), floats(dataset.validation.flat)
    model = VAE(
        VAEConfig(
            input_dim=(math.prod(dataset.image_shape),),
            latent_dim=settings.model.code_size,
            reconstruction_loss="bce",
        ),
        encoder=Encoder(settings.model, math.prod(dataset.image_shape)),
        decoder=Decoder(settings.model, math.prod(dataset.image_shape)),
    )
    initialize(model)
    # its progress bar is drawn, for it takes time, but not shown
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stderr(io.StringIO()):
        trainer = BaseTrainer(
            model,
            BaseDataset(images, labels=torch.zeros(len(images))),
            training_config=BaseTrainerConfig(
                output_dir=output,
                num_epochs=settings.epochs,
                per_device_train_batch_size=settings.batch_size,
                learning_rate=settings.optimizer.adam.learning_rate,
                seed=settings.seed,
                no_cuda=True,
            ),
        )
        trainer.prepare_training()
        for epoch in range(1, settings.epochs + 1):
            start = time.perf_counter()
            trainer.train_step(epoch)
            seconds = time.perf_counter() - start
            yield Epoch(seconds, elbo(lambda x: model({"data": x}).loss, validation))
