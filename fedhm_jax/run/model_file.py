"""Trained models as files that people can open elsewhere: safetensors, described in docs/trained_models.md.

Tensors are named as in Flax: ``params/conv/kernel``, or ``params/conv/kernel/v`` and ``.../u`` where a tier holds
factors, and ``batch_stats/stem_norm/mean``. Types that NumPy does not know are written as float32. What else a reader
needs stands in the file's metadata, as text and JSON.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedhm_jax.errors import ConfigError
from fedhm_jax.files import replacing, writing
from fedhm_jax.lowrank import Factors, recover
from fedhm_jax.tree import Params, map_named, misfit, named_leaves

FORMAT = "fedhm_jax model 1"


class ModelFile(NamedTuple):
    """What a model's file holds.

    Attributes:
        tensors: by name.
        about: the metadata.
    """

    tensors: Mapping[str, np.ndarray]
    about: Mapping[str, str]


def write_model_file(path: Path, file: ModelFile) -> None:
    """Writes a model's file, whole or not at all.

    Args:
        path: where; what was there is replaced.
        file: what it is to hold.

    Raises:
        WriteError: it could not be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "tiny.safetensors"
        ...     write_model_file(path, ModelFile({"params/bias": np.ones(2, np.float32)}, {"format": FORMAT}))
        ...     read_model_file(path, "model.init").tensors["params/bias"].tolist()
        [1.0, 1.0]
    """
    # The format has no strides: an array that is not contiguous would be written in the order of its memory.
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in file.tensors.items()}
    with writing(f"the model file {path.name}", path.parent), replacing(path) as part:
        part.write_bytes(save(tensors, metadata=dict(file.about)))


def read_model_file(path: Path, field: str) -> ModelFile:
    """Reads a model's file.

    Args:
        path: the file.
        field: what an error message calls it.

    Returns:
        Tensors and metadata.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        with safe_open(path.expanduser(), "np") as opened:
            about = opened.metadata() or {}
            if about.get("format") == FORMAT:
                return ModelFile({name: opened.get_tensor(name) for name in opened.keys()}, about)  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        allowed = f"a file that can be read as safetensors ({getattr(error, 'strerror', None) or error})"
        raise ConfigError.of(field, str(path), allowed) from error
    raise ConfigError.of(field, str(path), f"a model's file, whose metadata say format = {FORMAT!r}")


def as_tensors(params: Params, statistics: Params) -> dict[str, np.ndarray]:
    """A model's arrays by their names in a file.

    Args:
        params: parameters of any tier.
        statistics: static norm statistics.

    Returns:
        The tensors.

    Example:
        >>> list(as_tensors({"dense": {"kernel": Factors(v=np.ones((3, 1)), u=np.ones((1, 2)))}}, {}))
        ['params/dense/kernel/v', 'params/dense/kernel/u']
    """
    leaves = named_leaves({"params": params}) | named_leaves({"batch_stats": statistics})
    return {name: _readable(np.asarray(leaf)) for name, leaf in leaves.items()}


def from_tensors(tensors: Mapping[str, np.ndarray], collection: str, like: Params) -> Params:
    """The tree that a file holds.

    Args:
        tensors: of the file.
        collection: ``"params"`` or ``"batch_stats"``.
        like: a tree of the same structure, for shapes and dtypes.

    Returns:
        The tree, on the host.

    Raises:
        ValueError: its first path that differs, in words that follow the name of the file.
    """
    prefix = f"{collection}/"
    held = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if (difference := misfit(held, like)) is not None:
        raise ValueError(difference)
    return map_named(lambda path, leaf: held[path].astype(leaf.dtype), like)


def whole_kernels(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of a file by path, factorized kernels multiplied out.

    Args:
        tensors: of the file.

    Returns:
        Arrays by parameter path.

    Example:
        >>> factors = {"params/dense/kernel/v": np.ones((3, 1)), "params/dense/kernel/u": np.ones((1, 2))}
        >>> {path: kernel.shape for path, kernel in whole_kernels(factors).items()}
        {'dense/kernel': (3, 2)}
    """
    held = {name.removeprefix("params/"): array for name, array in tensors.items() if name.startswith("params/")}
    factors = [path.removesuffix("/v") for path in held if path.endswith("/v") and f"{path[:-1]}u" in held]
    for path in factors:
        v, u = (jnp.asarray(held.pop(f"{path}/{name}")) for name in Factors._fields)
        held[path] = np.asarray(recover(Factors(v, u)))
    return held


def _readable(array: np.ndarray) -> np.ndarray:
    """NumPy has no bfloat16; every value of it is a float32."""
    return array if array.dtype.isbuiltin else array.astype(np.float32)
