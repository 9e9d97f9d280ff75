"""ONNX by jax2onnx: networks for onnxruntime and other engines, without JAX or Python."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vaectl.exports.base import FOLDER, Coders, Export, Files, functions

if TYPE_CHECKING:
    from vaectl.runs.trained import Trained

INSTALL = "pip install 'vaectl[onnx]' && pip install --no-deps 'jax2onnx>=0.17.1,<0.18'"
"""jax2onnx asks for orbax-checkpoint<0.11.37, older than the one that vaectl saves with, though it
does not use it for this, so that no single command of pip installs both. jax2onnx 0.13 asks for no
such version, but exports some convolutions wrongly, as tests/test_exports.py shows."""
OPSET = 21
"""The version of ONNX's operators; onnxruntime 1.18 and later run it."""
_FATAL = 4


class ONNX(Export, name="onnx"):
    """Two networks with the weights inside, for batches of any size.

        encoder.onnx  x [batch, h, w, c] -> mu, log_var [batch, code]
        decoder.onnx  z [batch, code] -> mean [batch, h, w, c]

    Those of a conditional model take a `label` [batch], too: see `functions`.
    """

    tolerance: ClassVar[float] = 1e-4
    # an ONNX file begins with the version of its format and the name of what wrote it
    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {
        FOLDER: {r"(encoder|decoder)\.onnx": rb"\x08.\x12\x06vaectl"}
    }

    needs: ClassVar[tuple[str, ...]] = ("jax2onnx", "onnx", "onnx_ir", "onnxruntime")
    install: ClassVar[str] = INSTALL

    def write(self, model: Trained) -> Files:
        """Return the encoder and the decoder."""
        from vaectl.base.shapes import shaped

        batch: Any = "batch"
        # built before the conversion, which replaces functions of JAX while it runs
        encode, decode = functions(model.vae, model.variables)
        label = {"label": shaped((batch,), np.int32)} if model.vae.classes else {}
        with _quiet():
            from jax2onnx import to_onnx

            def network_of(
                function: Callable[..., Any],
                name: str,
                shape: tuple[int, ...],
                outputs: Sequence[str],
            ) -> bytes:
                inputs = {name: shaped((batch, *shape), np.float32), **label}
                converted: Any = to_onnx(
                    function,
                    [*inputs.values()],
                    opset=OPSET,
                    model_name=f"{model.rundir.name}, {model.checkpoint.where}",
                    input_names=[*inputs],
                    output_names=outputs,
                )
                converted.producer_name = "vaectl"
                content: bytes = converted.SerializeToString(deterministic=True)
                return content

            return {
                "encoder.onnx": network_of(encode, "x", model.image_shape, ["mu", "log_var"]),
                "decoder.onnx": network_of(decode, "z", (model.code_size,), ["mean"]),
            }

    def read(self, files: Files) -> Coders:
        """Load the networks into onnxruntime."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(
                files[name], options, providers=["CPUExecutionProvider"]
            )

        encoder, decoder = session("encoder.onnx"), session("decoder.onnx")

        def run(network: Any, *given: Any) -> Any:
            names = [one.name for one in network.get_inputs()]
            return network.run(None, dict(zip(names, given, strict=True)))

        return Coders(lambda *given: run(encoder, *given), lambda *given: run(decoder, *given)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about plugins of the converter for libraries that are not installed."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
