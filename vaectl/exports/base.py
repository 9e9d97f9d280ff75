"""The protocol of export formats, and the facts that travel with a model.

A format turns a trained model into files and, where these describe functions, reads them back from
nothing but the files, so that `vaectl.export` can compare the two before a file is kept.
Formats are plugs, but no part of a configuration.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field

from vaectl.base import plugins
from vaectl.base.errors import ConfigError, RunError
from vaectl.base.files import regular
from vaectl.base.nearest import did_you_mean_path
from vaectl.base.plugs import Plug
from vaectl.config.meaning import meaning
from vaectl.runs.record import DataFacts, ImageShape, Part, PlugFacts, Positive, Words
from vaectl.version import VERSION

if TYPE_CHECKING:
    from jaxtyping import Array, Int32

    from vaectl.runs.trained import Trained
    from vaectl.vae.vae import VAE, Network, Variables

FOLDER = "export"
"""The folder of a run for exported files."""
ALL = "all"
"""The word that stands for every format."""
FORMAT_VERSION = 1

Files = Mapping[str, bytes]
"""Contents of files, by name."""


class Coders(NamedTuple):
    """An encoder and a decoder as NumPy functions, for any number of images or codes.

    Those of a conditional model take the class of each image as a second argument: see `functions`.
    """

    encode: Callable[..., tuple[Float[np.ndarray, "batch code"], Float[np.ndarray, "batch code"]]]
    """Map images in [0, 1] to mean and log-variance of q(z|x)."""
    decode: Callable[..., Float[np.ndarray, "batch h w c"]]
    """Map codes to the mean of each pixel under p(x|z)."""


class Facts(Part):
    """The facts that a reader of a model's arrays needs, as JSON that travels with them."""

    format_version: int = FORMAT_VERSION
    vaectl: Words
    """The version of vaectl that wrote it."""
    name: Words
    """The name of the run."""
    checkpoint: Words
    """The checkpoint's place in the training, in words."""
    image_shape: ImageShape
    code_size: Positive
    likelihood: Words
    pixels: Words
    """The binarization of images before the encoder."""
    config: dict[str, Any]
    """The whole configuration of the experiment."""
    data: DataFacts
    plugs: list[PlugFacts] = Field([])
    """Plugs that are not built in."""


class Portable(NamedTuple):
    """A model that was read from a file; only the types are checked."""

    facts: Facts | None
    """The facts that the file says about its arrays; None if it says none."""
    arrays: dict[str, np.ndarray]
    """The arrays of the network by dotted names, as `named` has them."""


class Export(Plug, kind="export"):
    """A format in which a model leaves its run."""

    tolerance: ClassVar[float] = 1e-4
    """The largest difference from the run at which a file is still kept: see `vaectl.export`."""
    suffix: ClassVar[str] = ""
    """The suffix of a file that `restore` reads; empty if the format cannot be imported."""

    def check(self) -> None:
        """Refuse to export before anything is computed.

        Raises:
            ConfigError: something that the format needs is not installed.
        """
        self.check_installed()

    @abstractmethod
    def write(self, model: Trained) -> Files:
        """Return the files of a model. Each name must match a pattern in `leaves`."""

    def read(self, files: Files) -> Coders | None:
        """Load the functions in the files; None if the format has no functions."""
        del files
        return None

    def restore(self, content: bytes) -> Portable:
        """Read a model from a file, which may come from anybody; no code is loaded.

        Raises:
            ValueError: this is not such a file.
        """
        raise ValueError(f"{len(content)} bytes of {self.name}, which cannot be imported")


def facts(model: Trained) -> Facts:
    """Return what travels with the arrays of a model."""
    record = model.rundir.read_record()
    return Facts(
        vaectl=VERSION,
        name=model.rundir.name,
        checkpoint=model.checkpoint.where,
        image_shape=model.image_shape,
        code_size=model.code_size,
        likelihood=model.settings.likelihood.name,
        pixels=meaning(model.settings),
        config=model.settings.model_dump(mode="json"),
        data=record.data,
        plugs=record.plugs,
    )


def functions(
    vae: VAE, variables: Variables
) -> tuple[
    Callable[..., tuple[Float[Array, "batch code"], Float[Array, "batch code"]]],
    Callable[..., Float[Array, "batch h w c"]],
]:
    """Return the encoder and the decoder of a model, as functions that a format writes.

        x [batch, h, w, c], label [batch] -> mu, log_var [batch, code]
        z [batch, code], label [batch] -> mean [batch, h, w, c]

    All arrays are float32, except the label: int32, the number of a class. Only functions of a
    conditional model take it. For a number that is not a class, the results are NaN.
    """
    import jax
    import jax.numpy as jnp

    network = vae.network(variables)
    if not vae.classes:
        return network.encode, network.mean

    def told(label: Int32[Array, " batch"]) -> Network:
        known = (label >= 0) & (label < vae.classes)
        # one_hot of ONNX counts negative numbers from the end
        y = jax.nn.one_hot(label, vae.classes)
        return network.given(jnp.where(known[:, None], y, jnp.nan))

    return (lambda x, label: told(label).encode(x), lambda z, label: told(label).mean(z))


def named(variables: Variables) -> dict[str, Any]:
    """Return the arrays of a network by dotted names, such as `encoder.hidden.kernel`.

    Random keys, as of dropout, become the numbers that they are made of. Inside `jax.eval_shape`
    the result has shapes and types in place of arrays.
    """
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {
        _name(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves
    }


def with_arrays(variables: Variables, arrays: Mapping[str, Any]) -> Variables:
    """Return the same nested dictionaries with other arrays, by the names that `named` gives."""
    import jax

    def other(path: tuple[Any, ...], leaf: Any) -> Any:
        array = arrays[_name(path)]
        return jax.random.wrap_key_data(array) if _is_key(leaf) else jax.numpy.asarray(array)

    filled: Variables = jax.tree_util.tree_map_with_path(other, variables)
    return filled


def _is_key(leaf: Any) -> bool:
    import jax

    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _name(path: tuple[Any, ...]) -> str:
    import jax

    return jax.tree_util.keystr(path, simple=True, separator=".")


def parse(texts: Sequence[str]) -> list[Export]:
    """Read formats as `--format` has them: names, lists of names with commas, or `all`.

    Raises:
        ConfigError: there is no such format, or none is named.
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError("--format: no format is named", hint=f"--format {ALL}")
    if ALL in names:
        plugins.load_installed()
    for name in names:
        if name != ALL and not plugins.is_known(Export, name):
            raise plugins.unknown(Export.kind, name, [*Export.known, ALL], f"--format {name}")
    wanted = Export.known if ALL in names else dict.fromkeys(names)
    return [Export.known[name]() for name in wanted]


def form_of(file: Path) -> Export:
    """Return the format of a file that is to be imported, by its suffix.

    Raises:
        ConfigError: files of that suffix cannot be imported.
        RunError: the file is missing or cannot be read.
    """
    suffix = file.suffix.lower()
    if suffix not in _by_suffix():
        plugins.load_installed()
    known = _by_suffix()
    if suffix not in known:
        raise ConfigError(
            f"{file}: not a file that can be imported; known are {', '.join(sorted(known))}",
            hint="other formats may hold code, or no names of arrays",
        )
    form: Export = known[suffix]()
    form.check()
    try:
        regular(file).close()
    except OSError as error:
        raise unreadable(file, error) from None
    return form


def _by_suffix() -> dict[str, type[Export]]:
    """Return the formats that can be imported, by the suffix of their files."""
    return {form.suffix: form for form in Export.known.values() if form.suffix}


def unreadable(file: Path, error: OSError) -> RunError:
    """Return the error for a file that cannot be read."""
    return RunError.of(error, file, near=did_you_mean_path(file))
