"""vaectl with `model.precision: bfloat16`."""

from collections.abc import Iterator

from tests.benchmarks.peers import vaectl
from tests.benchmarks.peers.worker import Epoch
from vaectl import config, data


def train(settings: config.Config, dataset: data.Dataset) -> Iterator[Epoch]:
    model = settings.model.model_copy(update={"precision": "bfloat16"})
    return vaectl.train(settings.model_copy(update={"model": model}), dataset)
