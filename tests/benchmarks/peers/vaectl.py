"""vaectl: an epoch is one compiled loop."""

from collections.abc import Iterator

import jax

from tests.benchmarks.peers.worker import Epoch
from vaectl import config, data
from vaectl.training import compiled
from vaectl.training import fit as fitting
from vaectl.training.program import Member, Program


def train(settings: config.Config, dataset: data.Dataset) -> Iterator[Epoch]:
    images = jax.device_put((dataset.train.flat, dataset.validation.flat))
    program = Program.of(settings, images=len(images[0]), image_shape=dataset.image_shape)
    member = Member.of(settings)
    for event in fitting.fit(
        program, member, fitting.Saved(compiled.init(program, member)), *images
    ):
        if isinstance(event, fitting.Epoch):
            yield Epoch(event.train_seconds, event.validation["elbo"])
