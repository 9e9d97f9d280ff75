"""The fast PyTorch loop with its loss under autocast and `torch.compile`."""

import functools

import torch

from tests.benchmarks.peers import pytorch

train = functools.partial(pytorch.train, compiled=torch.compile, bfloat16=True)
