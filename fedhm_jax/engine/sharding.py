"""Work spread over devices: each takes its share of the clients of a round and of the batches of the test set."""

from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fedhm_jax.engine.share import CLIENTS, PARTS, Share
from fedhm_jax.errors import ConfigError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
StateT = TypeVar("StateT")


MOST_UNASKED = PARTS
"""Devices of a CPU that a run takes unasked: those that add up as one does."""


def client_mesh(devices: int | None, clients: int = MOST_UNASKED) -> Mesh | None:
    """The devices that a run spreads over, as a mesh of one axis.

    Args:
        devices: how many; None takes all there are, but of a CPU's no more than ``clients`` and `MOST_UNASKED`.
        clients: sampled each round.

    Returns:
        The mesh, or None for a single device.

    Raises:
        ConfigError: there are not so many.

    Example:
        >>> client_mesh(1) is None
        True
    """
    there = jax.device_count()
    if devices is None:
        cores = jax.default_backend() == "cpu" and jax.process_count() == 1
        devices = min(there, clients, MOST_UNASKED) if cores else there
    if devices > there:
        allowed = f"at most {there}, the number of devices that JAX sees"
        if jax.default_backend() == "cpu":
            allowed += "; a CPU shows as more only if it is asked for before JAX is first used"
        raise ConfigError.of("server.devices", devices, allowed)
    if jax.process_count() > 1 and devices < there:
        raise ConfigError.of("server.devices", devices, f"{there}, all devices of all processes, or unset")
    if devices == 1:
        return None
    # The default has changed between versions of JAX.
    return jax.make_mesh((devices,), (CLIENTS,), (AxisType.Explicit,), devices=jax.devices()[:devices])


def spread(
    function: Callable[Concatenate[Share, Arguments], Result], mesh: Mesh | None, parts: int = PARTS
) -> Callable[Arguments, Result]:
    """A function of a share and of arrays, run on every device of a mesh.

    Args:
        function: ``function(share, *args) -> results``, put together with `Share.total` or `Share.gather`, so equal on
            all devices. Of arrays that are split over the mesh, it is given the device's own part.
        mesh: from `client_mesh`.
        parts: of the sums; as many as devices if these are more.

    Returns:
        ``call(*args) -> results``.

    Example:
        >>> def total(share, values):
        ...     return share.total(values[share.place(jnp.arange(share.own_parts))])
        >>> int(spread(total, None, parts=3)(jnp.array([1, 2, 3])))
        6
    """
    if mesh is None:
        return partial(function, Share(0, 1, parts))
    devices = mesh.devices.size

    def on_device(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return function(Share(lax.axis_index(CLIENTS), devices, max(parts, devices)), *args, **kwargs)

    # With its default check, shard_map sums every gradient by a replicated array over the mesh: each client would
    # train on the gradients of all. How arguments are split, their types say.
    return jax.shard_map(on_device, mesh=mesh, out_specs=P(), check_vma=False)


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """A copy of a tree on every device of a mesh.

    Args:
        tree: arrays, in host memory or on a device, or PRNG keys, which every process holds.
        mesh: from `client_mesh`; None for the default device.

    Returns:
        The tree.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, P())

    def place(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, tree)


def on_one_device(
    function: Callable[Concatenate[StateT, Arguments], StateT], mesh: Mesh | None
) -> Callable[Concatenate[StateT, Arguments], StateT]:
    """A function that updates its first argument, computed once and handed on where the devices share a processor.

    Args:
        function: ``function(state, *args) -> state``, in the shapes and types of the state it is given.
        mesh: from `client_mesh`.

    Returns:
        The same function. Accelerators each compute it for themselves, which takes less than to send the result.
    """
    if mesh is None or mesh.devices.flat[0].platform != "cpu":
        return function

    def on_device(share: Share, state: StateT, *args: Arguments.args, **kwargs: Arguments.kwargs) -> StateT:
        def nothing(state: StateT, *args: Arguments.args, **kwargs: Arguments.kwargs) -> StateT:
            return jax.tree.map(jnp.zeros_like, state)

        computed = lax.cond(share.index == 0, function, nothing, state, *args)
        return jax.tree.map(_sum_of_bits, computed)

    return spread(on_device, mesh)


def _sum_of_bits(leaf: jax.Array) -> jax.Array:
    """Sum over devices of which one alone has something; as numbers, -0.0 would become 0.0."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return lax.psum(leaf, CLIENTS)
    bits = lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
    return lax.bitcast_convert_type(lax.psum(bits, CLIENTS), leaf.dtype)
