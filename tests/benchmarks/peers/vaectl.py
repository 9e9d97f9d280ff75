"""vaectl: an epoch is one compiled program."""

from collections.abc import Iterator

import jax

from tests.benchmarks.peers.worker import Epoch
from vaectl import config, data, training


def train(settings: config.Config, dataset: data.Dataset) -> Iterator[Epoch]:
    images = jax.device_put((dataset.train.images, dataset.validation.images))
    program = training.program(settings, images=len(images[0]), pixels=dataset.pixels)
    member = training.member(settings)
    for epoch in training.fit(program, member, training.init(program, member), *images):
        yield Epoch(epoch.train_seconds, epoch.validation.elbo)
