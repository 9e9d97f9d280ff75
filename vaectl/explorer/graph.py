"""A JAX function as a small graph, which the page computes by the operations of engine.js.

    map      one value from one, two or several, element by element
    move     out[i] = inputs[from[i]], where all inputs are joined in their order
    matmul   [batches, m, k] times [batches, k, n]
    conv     images [batch, h, w, c], kernel [h, w, c, filters]
    reduce   [outer, inner] to [outer]

Whatever only moves values (a slice, a transposition, a concatenation) is a `move`: it is found by
running the primitive on the positions of its inputs instead of their values. So the page knows no
model and no likelihood, and a plug works in it if its primitives are known here.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.extend.core import Literal as Constant

from vaectl.base.errors import RunError

Width = Literal[3, 4]
"""Bytes of a packed number."""
Graph = dict[str, Any]
"""A graph as JSON."""

_TYPES = {"float32": "f4", "int32": "i4", "bool": "u1"}
_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"}
_CALLS |= {"custom_vjp_call_jaxpr", "checkpoint", "remat", "remat2"}
_SAME = {"copy", "copy_p", "optimization_barrier", "sharding_constraint", "stop_gradient"}
_JOINS = ("concatenate", "pad", "stack")
_TAKES = ("broadcast_in_dim", "dynamic_slice", "gather", "rev", "slice", "split", "transpose")
_RESHAPES = {"reshape", "squeeze", "expand_dims"}
_MAPS = {"abs", "add", "and", "atan2", "cbrt", "ceil", "cos", "cosh", "div", "eq", "erf", "exp"}
_MAPS |= {"exp2", "expm1", "floor", "ge", "gt", "is_finite", "le", "lgamma", "log", "log1p", "lt"}
_MAPS |= {"logistic", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "rem", "rsqrt", "sign"}
_MAPS |= {"sin", "sinh", "sqrt", "sub", "tan", "tanh", "xor"}
_RENAMED = {"add_any": "add", "select_n": "select"}
_REDUCTIONS = {f"reduce_{name}": name for name in ("sum", "prod", "max", "min", "and", "or")}
_WINDOWS = {"reduce_window_sum": ("sum", 0.0), "reduce_window_max": ("max", -np.inf)}


class UnknownError(RunError):
    """The page cannot compute an operation of a model."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the page cannot compute {what}",
            hint="write the model or likelihood without it, or look at the run by vaectl sample, "
            "manifold, morph and inspect",
        )


@final
class Weights:
    """The float arrays of several graphs, each kept once."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._places: dict[str, int] = {}
        self.size = 0
        """The number of values."""

    def place(self, array: np.ndarray) -> int:
        """Keep an array; return where it begins."""
        flat = np.ascontiguousarray(array, np.float32).ravel()
        key = hashlib.sha256(flat.tobytes()).hexdigest()
        if key not in self._places:
            self._places[key] = self.size
            self._arrays.append(flat)
            self.size += flat.size
        return self._places[key]

    def pack(self, width: Width) -> bytes:
        """Return all numbers in 4 bytes each, or rounded to 3: 16 bits of precision."""
        return pack(np.concatenate([*self._arrays, np.zeros(0, np.float32)]), width)


def pack(numbers: np.ndarray, width: Width) -> bytes:
    """Return the leading bytes of float32 numbers, rounded, the lowest byte first."""
    bits = np.ascontiguousarray(numbers, "<f4").ravel().view("<u4")
    if width == 4:
        return bits.tobytes()
    above = np.minimum(bits.astype(np.uint64) + 0x80, 0xFFFFFFFF).astype("<u4") & 0xFFFFFF00
    return above.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()


def rounded(array: Any) -> np.ndarray:
    """Return float32 numbers as `pack` keeps them in 3 bytes."""
    numbers = np.asarray(array)
    packed = np.frombuffer(pack(numbers, 3), np.uint8).reshape(-1, 3)
    bits = np.zeros((len(packed), 4), np.uint8)
    bits[:, 1:] = packed
    return bits.view("<f4").astype(np.float32).reshape(numbers.shape)


def trace(function: Callable[..., Any], *shapes: Sequence[int], weights: Weights) -> Graph:
    """Return the graph of a function of float32 arrays; what it closes over becomes weights.

    Raises:
        RunError: the page cannot compute one of its operations.
    """
    closed = jax.make_jaxpr(function)(*(jnp.zeros(shape, jnp.float32) for shape in shapes))
    builder = _Builder(weights)
    inputs = [builder.new(shape, "float32") for shape in shapes]
    outputs = builder.run(closed, inputs)
    return {
        "slots": builder.slots,
        "weights": builder.weights,
        "numbers": builder.numbers,
        "steps": builder.steps,
        "inputs": [value.slot for value in inputs],
        "outputs": [builder.slot(value) for value in outputs],
        "shapes": [list(value.shape) for value in outputs],
    }


class _Value(NamedTuple):
    """An array of a graph."""

    shape: tuple[int, ...]
    dtype: str
    slot: int = -1
    """The number of its array in the page; -1 for a known one that was not used yet."""
    known: np.ndarray | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@final
class _Builder:
    """A graph while it is built."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.slots: list[tuple[int, str]] = []
        """Size and type of each value."""
        self.weights: list[tuple[int, int]] = []
        """Slots that hold weights, and where these begin."""
        self.numbers: list[tuple[int, list[float | str]]] = []
        """Slots that hold other constants."""
        self.steps: list[dict[str, Any]] = []

    def run(self, closed: ClosedJaxpr, inputs: Sequence[_Value]) -> list[_Value]:
        """Add the equations of a jaxpr; return its outputs."""
        jaxpr = closed.jaxpr
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= zip(jaxpr.constvars, map(_constant, closed.consts), strict=True)

        def read(atom: Any) -> _Value:
            if isinstance(atom, Constant):
                aval: Any = atom.aval
                return _constant(np.asarray(atom.val, aval.dtype))
            return known[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            known |= zip(equation.outvars, results, strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    def new(self, shape: Sequence[int], dtype: Any) -> _Value:
        """Make a value that is yet to be computed."""
        name = np.dtype(dtype).name
        if name not in _TYPES:
            raise UnknownError(f"numbers of the type {name}")
        self.slots.append((math.prod(shape), _TYPES[name]))
        return _Value(tuple(shape), name, len(self.slots) - 1)

    def slot(self, value: _Value) -> int:
        """Return the slot of a value; one that is known gets its own."""
        if value.known is None or value.slot >= 0:
            return value.slot
        slot = self.new(value.shape, value.dtype).slot
        if value.dtype == "float32" and value.size > 1:
            self.weights.append((slot, self._weights.place(value.known)))
        else:
            # JSON has no numbers that are not finite
            numbers = [n if math.isfinite(n) else str(n) for n in value.known.ravel().tolist()]
            self.numbers.append((slot, numbers))
        return slot

    def _equation(self, equation: Any, inputs: list[_Value]) -> list[_Value]:
        name, params = equation.primitive.name, equation.params
        avals = [variable.aval for variable in equation.outvars]
        if name in _CALLS:
            return self.run(_inner(params), inputs)
        if name in _SAME:
            return inputs
        platforms = params.get("branches_platforms")
        if platforms and None in platforms:  # the program for devices that have none of their own
            return self.run(params["branches"][platforms.index(None)], inputs[1:])
        sizes = sum(math.prod(aval.shape) for aval in avals), sum(each.size for each in inputs)
        known = all(value.known is not None for value in inputs)
        lower = _LOWERED.get(name)
        if name in _RESHAPES:
            (value,) = inputs
            return [self.move([value], _positions(value).reshape(avals[0].shape))]
        if known and (lower is None or sizes[0] <= max(sizes[1], 64)):
            found = equation.primitive.bind(*(value.known for value in inputs), **params)
            return [_constant(array) for array in (found if len(avals) > 1 else _flat(found))]
        if lower is None:
            raise UnknownError(f"the operation {name}")
        found = lower(self, equation, inputs)
        return found if isinstance(found, list) else [found]

    def step(self, kind: str, out: _Value, inputs: Sequence[_Value], **how: Any) -> _Value:
        """Add a step; return what it computes."""
        slots = [self.slot(value) for value in inputs]
        self.steps.append({"kind": kind, "out": out.slot, "in": slots, **how})
        return out

    def map(self, name: str, aval: Any, *inputs: _Value) -> _Value:
        """Compute element by element; inputs with one element are broadcast."""
        spread = [
            value
            if value.size == 1
            else self.move([value], np.broadcast_to(_positions(value), aval.shape))
            for value in inputs
        ]
        return self.step("map", self.new(aval.shape, aval.dtype), spread, name=name)

    def move(self, inputs: Sequence[_Value], positions: np.ndarray) -> _Value:
        """Take values by their positions in the joined inputs."""
        first = inputs[0]
        if len(inputs) == 1 and first.known is not None and positions.size <= first.size:
            return _constant(first.known.ravel()[positions])
        if len(inputs) == 1 and np.array_equal(positions.ravel(), np.arange(first.size)):
            return first._replace(slot=self.slot(first), shape=positions.shape, known=None)
        out = self.new(positions.shape, first.dtype)
        return self.step("move", out, inputs, **_compressed(positions))


def _constant(array: Any) -> _Value:
    found = np.asarray(array)
    return _Value(found.shape, found.dtype.name, known=found)


def _flat(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list | tuple) else [found]


def _inner(params: dict[str, Any]) -> ClosedJaxpr:
    """Return the function that a call calls."""
    inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _positions(value: _Value, start: int = 0) -> np.ndarray:
    return np.arange(start, start + value.size, dtype=np.int32).reshape(value.shape)


def _compressed(positions: np.ndarray) -> dict[str, Any]:
    """Return positions as a shape with strides, or else one by one."""
    if not positions.size:
        return {"start": 0, "shape": [0], "strides": [0]}
    start = int(positions.ravel()[0])
    strides = []
    for axis, size in enumerate(positions.shape):
        step = [0] * positions.ndim
        step[axis] = min(1, size - 1)
        strides.append(int(positions[tuple(step)]) - start)
    grid = np.ogrid[tuple(slice(size) for size in positions.shape)]
    affine = start + sum((s * axis for s, axis in zip(strides, grid, strict=True)), np.int64(0))
    if np.array_equal(np.broadcast_to(affine, positions.shape), positions):
        return {"start": start, "shape": list(positions.shape), "strides": strides}
    return {"from": base64.b64encode(positions.astype("<i4").tobytes()).decode()}


def _map(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    name, aval = equation.primitive.name, equation.outvars[0].aval
    if name == "not" and aval.dtype != bool:  # of each bit
        return build.map("xor", aval, *inputs, _constant(np.int32(-1)))
    return build.map(_RENAMED.get(name, name), aval, *inputs)


def _move(build: _Builder, equation: Any, inputs: list[_Value]) -> list[_Value]:
    primitive = equation.primitive
    # all other inputs of a `take` are indices, which must be constants
    count = len(inputs) if primitive.name in _JOINS else 1
    values, choices = inputs[:count], inputs[count:]
    if any(choice.known is None for choice in choices):
        raise UnknownError(f"the operation {primitive.name} at computed places")
    starts = np.cumsum([0, *(value.size for value in values)]).tolist()
    positions = [_positions(v, start) for v, start in zip(values, starts, strict=False)]
    found = primitive.bind(*positions, *(choice.known for choice in choices), **equation.params)
    return [build.move(values, np.asarray(each)) for each in _flat(found)]


def _integer_pow(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    exponent = _constant(np.float32(equation.params["y"]))
    return build.map("pow", equation.outvars[0].aval, *inputs, exponent)


def _square(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    return build.map("mul", equation.outvars[0].aval, *inputs, *inputs)


def _clamp(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    aval, (low, value, high) = equation.outvars[0].aval, inputs
    return build.map("min", aval, build.map("max", aval, value, low), high)


def _convert(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    aval, (value,) = equation.outvars[0].aval, inputs
    if value.dtype == aval.dtype.name:
        return value
    if value.dtype not in _TYPES:
        raise UnknownError(f"numbers of the type {value.dtype}")
    return build.map("truth" if aval.dtype == bool else "same", aval, value)


def _dot(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    a, b = inputs
    a_free = [axis for axis in range(len(a.shape)) if axis not in (*left, *left_batch)]
    b_free = [axis for axis in range(len(b.shape)) if axis not in (*right, *right_batch)]
    rows = build.move([a], _positions(a).transpose(*left_batch, *a_free, *left))
    columns = build.move([b], _positions(b).transpose(*right_batch, *right, *b_free))
    out = build.new(equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype)
    sizes = {
        "batches": math.prod(a.shape[axis] for axis in left_batch),
        "m": math.prod(a.shape[axis] for axis in a_free),
        "k": math.prod(a.shape[axis] for axis in left),
        "n": math.prod(b.shape[axis] for axis in b_free),
    }
    return build.step("matmul", out, [rows, columns], **sizes)


def _reduce(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    (value,), axes = inputs, equation.params["axes"]
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    lines = build.move([value], _positions(value).transpose(*kept, *axes))
    out = build.new(equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype)
    return build.step("reduce", out, [lines], name=_REDUCTIONS[equation.primitive.name])


def _window(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    """Lay out the values of each window side by side, and reduce them."""
    (value,), params = inputs, equation.params
    if {*params["base_dilation"], *params["window_dilation"]} != {1}:
        raise UnknownError(f"the operation {equation.primitive.name} with dilation")
    name, empty = _WINDOWS[equation.primitive.name]
    nothing = _constant(np.float32(empty))
    padded = np.pad(_positions(value), params["padding"], constant_values=value.size)
    windows = np.lib.stride_tricks.sliding_window_view(padded, params["window_dimensions"])
    chosen = windows[tuple(slice(None, None, step) for step in params["window_strides"])]
    lines = build.move([value, nothing], chosen)
    out = build.new(equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype)
    return build.step("reduce", out, [lines], name=name)


def _conv(build: _Builder, equation: Any, inputs: list[_Value]) -> _Value:
    params, (images, kernel) = equation.params, inputs
    spec = params["dimension_numbers"]
    spatial = len(images.shape) - 2
    if params["batch_group_count"] != 1 or spatial not in (1, 2):
        raise UnknownError("a convolution over groups of images, or over more than two dimensions")

    def along(values: Sequence[int], filler: int) -> list[int]:
        return [*[filler] * (2 - spatial), *map(int, values)]

    b, c, *sides = spec.lhs_spec
    x = build.move([images], _positions(images).transpose(b, *sides, c))
    filters, channels, *extent = spec.rhs_spec
    w = build.move([kernel], _positions(kernel).transpose(*extent, channels, filters))
    aval = equation.outvars[0].aval
    out_b, out_c, *out_sides = spec.out_spec
    order = (out_b, *out_sides, out_c)
    out = build.new([aval.shape[axis] for axis in order], aval.dtype)
    build.step(
        "conv",
        out,
        [x, w],
        batch=x.shape[0],
        image=[*along(x.shape[1:-1], 1), x.shape[-1]],
        result=[*along(out.shape[1:-1], 1), out.shape[-1]],
        kernel=along(w.shape[:-2], 1),
        stride=along(params["window_strides"], 1),
        before=along([low for low, _ in params["padding"]], 0),
        spread=along(params["lhs_dilation"], 1),
        kernelSpread=along(params["rhs_dilation"], 1),
        groups=params["feature_group_count"],
    )
    return build.move([out], _positions(out).transpose(*np.argsort(order).tolist()))


_Lower = Callable[[_Builder, Any, list[_Value]], _Value | list[_Value]]
_LOWERED: dict[str, _Lower] = {
    **dict.fromkeys((*_MAPS, *_RENAMED), _map),
    **dict.fromkeys((*_JOINS, *_TAKES), _move),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_WINDOWS, _window),
    "clamp": _clamp,
    "conv_general_dilated": _conv,
    "convert_element_type": _convert,
    "dot_general": _dot,
    "integer_pow": _integer_pow,
    "square": _square,
}
