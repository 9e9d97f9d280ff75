"""safetensors: the arrays, and JSON that says what they are; `vaectl import` reads it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import ValidationError

from vaectl.exports.base import (
    FOLDER,
    FORMAT_VERSION,
    Coders,
    Export,
    Facts,
    Files,
    Portable,
    facts,
    functions,
    named,
    with_arrays,
)

if TYPE_CHECKING:
    from vaectl.runs.trained import Trained

KEY = "vaectl"
"""The key of the file's metadata that holds the facts, as JSON."""
MOST_OF_FACTS = 2**18
"""The longest facts that are read; a configuration has a tenth of this."""


class SafeTensors(Export, name="safetensors"):
    """All arrays of the network in one file, and its architecture beside it as JSON."""

    tolerance: ClassVar[float] = 1e-5
    suffix: ClassVar[str] = ".safetensors"
    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {
        FOLDER: {
            r"model\.safetensors": rb'.{8}\{"__metadata__":\{"vaectl":"',
            r"model\.json": rb'\{\s*"format_version": \d',
        }
    }

    def write(self, model: Trained) -> Files:
        """Return the arrays with the facts inside, and the facts with the names of the arrays."""
        import safetensors.numpy

        # not ascontiguousarray, which makes a number, such as dropout's counter, an array of one
        arrays = {
            name: np.asarray(leaf, order="C") for name, leaf in named(model.variables).items()
        }
        told = facts(model)
        shapes = {
            name: {"shape": list(array.shape), "dtype": array.dtype.name}
            for name, array in arrays.items()
        }
        whole = {**told.model_dump(mode="json"), "arrays": shapes}
        return {
            "model.safetensors": safetensors.numpy.save(arrays, {KEY: told.model_dump_json()}),
            "model.json": json.dumps(whole, indent=2).encode() + b"\n",
        }

    def read(self, files: Files) -> Coders:
        """Build the network from nothing but the file."""
        import jax

        from vaectl.config import reading
        from vaectl.training.program import Program

        found = self.restore(files["model.safetensors"])
        if found.facts is None:
            raise ValueError("the facts are missing")
        settings = reading.of_mapping(found.facts.config)
        vae = Program.of(
            settings,
            images=1,
            image_shape=found.facts.image_shape,
            classes=found.facts.data.get("classes", 0),
        ).vae
        shapes = jax.eval_shape(lambda: vae.init(jax.random.key(0)))
        variables = with_arrays(shapes, found.arrays)
        encode, decode = map(jax.jit, functions(vae, variables))
        return Coders(
            lambda *given: jax.tree.map(np.asarray, encode(*given)),
            lambda *given: np.asarray(decode(*given)),
        )

    def restore(self, content: bytes) -> Portable:
        """Read arrays, and the facts if there are any.

        Raises:
            ValueError: this is not a safetensors file, or its facts are not of this vaectl.
        """
        import safetensors.numpy

        try:
            arrays = safetensors.numpy.load(content)
        except Exception as error:  # it has several classes of errors, and KeyError for a type
            raise ValueError(f"not a safetensors file that NumPy can hold: {error}") from None
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        told = (header.get("__metadata__") or {}).get(KEY)
        if told is None:
            return Portable(None, arrays)
        if len(told) > MOST_OF_FACTS:
            raise ValueError(f"its metadata has {len(told):,} characters")
        try:
            found = Facts.model_validate_json(told)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "vaectl"
            raise ValueError(f"its metadata: {where}: {first['msg']}") from None
        if found.format_version > FORMAT_VERSION:
            raise ValueError(f"its layout {found.format_version} is of a newer vaectl")
        return Portable(found, arrays)
