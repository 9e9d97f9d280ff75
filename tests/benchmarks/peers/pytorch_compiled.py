"""The fast PyTorch loop with its loss under `torch.compile`, which compiles the gradient too.

The optimizer stays the fused one: compiling its step as well was no faster on a CPU, nor was
`mode="max-autotune"`.
"""

import functools

import torch

from tests.benchmarks.peers import pytorch

train = functools.partial(pytorch.train, compiled=torch.compile)
