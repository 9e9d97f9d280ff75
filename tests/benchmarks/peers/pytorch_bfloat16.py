"""The fast PyTorch loop with its loss under autocast: products of matrices in bfloat16."""

import functools

from tests.benchmarks.peers import pytorch

train = functools.partial(pytorch.train, bfloat16=True)
