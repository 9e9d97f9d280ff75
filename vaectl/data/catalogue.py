"""Data sources to choose from, and which of them are ready on this machine."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A data source."""

    source: str
    state: str
    what: str


PUBLISHED = {
    "mnist": "70,000 handwritten digits, 28x28",
    "fashion_mnist": "70,000 pictures of clothes, 28x28",
    "kmnist": "70,000 Japanese characters, 28x28",
}


def entries() -> list[Entry]:
    """All that is known by name, then the forms for local files."""
    from vaectl.data import tfds

    found = [Entry("digits-5k", "ready: embedded", "5,000 digits of MNIST, 28x28")]
    for name, what in PUBLISHED.items():
        state = (
            "ready: cached" if tfds.is_ready(name) else f"downloads {tfds.download_size(name)} once"
        )
        found.append(Entry(f"tfds:{name}", state, what))
    return [
        *found,
        Entry("tfds:emnist/balanced", "to prepare: pip install 'vaectl[tfds]'", "letters, digits"),
        Entry("tfds:NAME", "to prepare: pip install 'vaectl[tfds]'", "any set of one channel"),
        Entry("idx:DIR", "local", "IDX files as MNIST's, plain or .gz; labels optional"),
        Entry("npz:FILE", "local", "x_train, x_test, as in Keras's mnist.npz; labels optional"),
    ]
