"""StableHLO by `jax.export`: programs that run wherever JAX does, without vaectl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vaectl.exports.base import FOLDER, Coders, Export, Files, functions

if TYPE_CHECKING:
    from vaectl.runs.trained import Trained

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""The devices for which the programs are written."""


class StableHLO(Export, name="stablehlo"):
    """Two programs with the weights inside, for batches of any size: see `functions`."""

    needs: ClassVar[tuple[str, ...]] = ("flatbuffers",)  # for writing by `jax.export`
    tolerance: ClassVar[float] = 1e-5
    # before it, jax.export writes offsets of a FlatBuffer
    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {
        FOLDER: {r"(encoder|decoder)\.stablehlo": rb".*ML\xefR.StableHLO_v\d"}
    }

    def write(self, model: Trained) -> Files:
        """Return the encoder and the decoder, each as a serialized program."""
        import jax
        from jax import export

        from vaectl.base.shapes import shaped

        batch: Any = export.symbolic_shape("batch")[0]
        label = [shaped((batch,), np.int32)] if model.vae.classes else []

        def program(function: Callable[..., Any], shape: tuple[int, ...]) -> bytes:
            given = shaped((batch, *shape), np.float32)
            exported = export.export(jax.jit(function), platforms=PLATFORMS)(given, *label)
            return bytes(exported.serialize())

        encode, decode = functions(model.vae, model.variables)
        return {
            "encoder.stablehlo": program(encode, model.image_shape),
            "decoder.stablehlo": program(decode, (model.code_size,)),
        }

    def read(self, files: Files) -> Coders:
        """Load the programs."""
        import jax
        from jax import export

        def loaded(name: str) -> Callable[..., Any]:
            called = jax.jit(export.deserialize(bytearray(files[name])).call)
            return lambda *given: jax.tree.map(np.asarray, called(*given))

        return Coders(loaded("encoder.stablehlo"), loaded("decoder.stablehlo"))
