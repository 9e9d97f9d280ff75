"""vaectl: an epoch is one compiled loop."""

from collections.abc import Iterator

import jax

from tests.benchmarks.peers.worker import Epoch
from vaectl import config, data
from vaectl.training import fit as fitting
from vaectl.training import step as training


def train(settings: config.Config, dataset: data.Dataset) -> Iterator[Epoch]:
    images = jax.device_put((dataset.train.images, dataset.validation.images))
    program = training.program(settings, images=len(images[0]), pixels=dataset.pixels)
    member = training.member(settings)
    for event in fitting.fit(program, member, training.init(program, member), *images):
        if isinstance(event, fitting.Epoch):
            yield Epoch(event.train_seconds, event.validation.elbo)
