import itertools

import jax
import numpy as np
import pytest

from vaectl.base import streams

pytestmark = pytest.mark.usefixtures("strict_types")


def test_a_key_depends_on_seed_name_and_step_and_on_nothing_else() -> None:
    def numbers(*of: object) -> bytes:
        return np.asarray(jax.random.normal(streams.key(*of), (4,))).tobytes()  # type: ignore[arg-type]

    places = list(itertools.product([0, 1, 2**32 - 1], ["noise", "shuffle"], [0, 1, 100_000]))
    assert len({numbers(*place) for place in places}) == len(places)
    assert numbers(1, "noise", 7) == numbers(1, "noise", 7)


def test_keys_are_the_same_whether_traced_or_not() -> None:
    traced = jax.jit(lambda seed, step: streams.key(seed, "noise", step))(np.uint32(3), 5)
    eager = streams.key(3, "noise", 5)
    assert jax.random.key_data(traced).tolist() == jax.random.key_data(eager).tolist()


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_would_be_another_one_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"the seed {seed}; it must be from 0 to 4294967295"):
        streams.key(seed, "sample")


def test_streams_keep_their_numbers_from_release_to_release() -> None:
    assert jax.random.key_data(streams.key(0, "init")).tolist() == [517294207, 118925294]
