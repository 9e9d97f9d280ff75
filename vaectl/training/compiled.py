"""The functions of training that are compiled, each once for equal programs."""

from functools import lru_cache, partial

import jax

from vaectl.base.mesh import shared
from vaectl.base.shapes import like
from vaectl.training import step
from vaectl.training.program import Member, Program, TrainState
from vaectl.vae.vae import Variables

_for_program = partial(jax.jit, static_argnames="program")

# without compilation, it would take most of a cold start
weights = _for_program(step.weights)
begin = _for_program(step.begin)
order = _for_program(step.order)
train_steps = _for_program(shared(step.train_steps), donate_argnames="state")
average = _for_program(shared(step.evaluated))
train_streamed_steps = _for_program(shared(step.train_streamed_steps), donate_argnames="state")


def init(program: Program, member: Member) -> TrainState:
    """Return the state before the first step.

    Two programs compute it, so that the last bits of the weights are the same with all optimizers:
    some optimizers keep a copy of the weights in their state.
    """
    state: TrainState = begin(program, member, weights(program, member))
    return state


def evaluated(program: Program, member: Member, state: TrainState) -> Variables:
    """Return the arrays of the network to evaluate it with.

    All code that uses a network without training it calls this function. Nothing is computed unless
    the optimizer averages.
    """
    if not program.optimizer.averages:
        return state.params
    found: Variables = average(program, member, state)
    return found


def shapes(program: Program, member: Member) -> TrainState:
    """Return shapes, types and places of the arrays of a state, without computing one."""
    place = member.seed.sharding if member.seed.committed else None
    state: TrainState = jax.tree.map(lambda leaf: like(leaf, place), _state(program))
    return state


@lru_cache(maxsize=64)
def _state(program: Program) -> TrainState:
    """Trace the first state of a program, which takes 50 ms; its members are all alike in it."""
    state: TrainState = jax.eval_shape(lambda: step.init(program, program.somebody))
    return state
