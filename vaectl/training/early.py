"""Early stopping: when a training has nothing more to gain."""

from collections.abc import Sequence


def last_gain(scores: Sequence[float], min_delta: float = 0.0) -> int:
    """Return the last epoch that is a gain: better than the last gain by more than `min_delta`.

    The first epoch is a gain. Small gains add up: they are measured from the last one that counted.

    Args:
        scores: the score of each epoch, from the first on; higher is better.
        min_delta: the least gain that counts.

    Returns:
        The epoch, from 1; 0 if there are no scores.
    """
    best, last = float("-inf"), 0
    for epoch, score in enumerate(scores, 1):
        if score > best + min_delta:
            best, last = score, epoch
    return last
