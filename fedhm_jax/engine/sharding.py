"""Work spread over devices: each takes its share of the clients of a round and of the batches of the test set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fedhm_jax.errors import ConfigError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
StateT = TypeVar("StateT")

CLIENTS = "clients"
"""Name of the mesh axis."""


@dataclass(frozen=True)
class Share:
    """The part of a list of things that one device works on: every ``devices``-th, from ``index`` on.

    Neighbours in a list ordered by size go to different devices, so no device waits long for another.

    Attributes:
        index: number of the device on the mesh.
        devices: how many there are.

    Example:
        >>> second = Share(1, 2)
        >>> second.of(jnp.array([5, 6, 7])).tolist(), int(second.count(3))
        ([6, 0], 1)
    """

    index: jax.Array | int
    devices: int

    def of(self, things: Any) -> Any:
        """The device's own things, padded with zeros to the longest share.

        Args:
            things: tree of arrays (things, ...).

        Returns:
            Tree of arrays (ceil(things / devices), ...).
        """
        if self.devices == 1:
            return things

        def own(array: jax.Array) -> jax.Array:
            padding = -array.shape[0] % self.devices
            padded = jnp.pad(array, ((0, padding), *[(0, 0)] * (array.ndim - 1)))
            rows = padded.reshape(-1, self.devices, *array.shape[1:])
            return lax.dynamic_index_in_dim(rows, self.index, axis=1, keepdims=False)

        return jax.tree.map(own, things)

    def count(self, things: jax.Array | int) -> jax.Array | int:
        """How many of a list's things are the device's own.

        Args:
            things: length of the list.

        Returns:
            ``ceil((things - index) / devices)``.
        """
        return things if self.devices == 1 else -((self.index - things) // self.devices)

    def after(self, things: jax.Array | int) -> "Share":
        """The share of a list that goes on where one before it ended, so that the lists' odd ends spread as well.

        Args:
            things: length of the lists before.

        Returns:
            The share.

        Example:
            >>> first = Share(0, 2)
            >>> first.count(3), first.after(3).count(3)
            (2, 1)
        """
        return self if self.devices == 1 else Share((self.index - things) % self.devices, self.devices)

    def sum(self, tree: Any) -> Any:
        """Sum over all devices, the same on each.

        Args:
            tree: arrays of this device.

        Returns:
            The tree of sums.
        """
        return tree if self.devices == 1 else lax.psum(tree, CLIENTS)

    def gather(self, tree: Any) -> Any:
        """The rows of all devices, one device after another, the same on each.

        Args:
            tree: arrays (rows, ...) of this device.

        Returns:
            Tree of arrays (devices * rows, ...).
        """
        return tree if self.devices == 1 else lax.all_gather(tree, CLIENTS, tiled=True)


EVERYTHING = Share(0, 1)
"""The share of a device that is alone."""


def client_mesh(devices: int | None) -> Mesh | None:
    """The devices that a run spreads over, as a mesh of one axis.

    Args:
        devices: how many; None takes all there are, but one where they are only a CPU's threads.

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
        devices = 1 if jax.default_backend() == "cpu" and jax.process_count() == 1 else there
    if devices > there:
        allowed = f"at most {there}, the number of devices that JAX sees"
        if jax.default_backend() == "cpu":
            allowed += "; a CPU shows as more after jax.config.update('jax_num_cpu_devices', n) at the very beginning"
        raise ConfigError.of("server.devices", devices, allowed)
    if jax.process_count() > 1 and devices < there:
        raise ConfigError.of("server.devices", devices, f"{there}, all devices of all processes, or unset")
    if devices == 1:
        return None
    # The default has changed between versions of JAX.
    return jax.make_mesh((devices,), (CLIENTS,), (AxisType.Explicit,), devices=jax.devices()[:devices])


def spread(function: Callable[Concatenate[Share, Arguments], Result], mesh: Mesh | None) -> Callable[Arguments, Result]:
    """A function of a share and of replicated arguments, run on every device of a mesh.

    Args:
        function: ``function(share, *args) -> results``, the results summed with `Share.sum`, so equal on all devices.
        mesh: from `client_mesh`.

    Returns:
        ``call(*args) -> results``.

    Example:
        >>> def total(share, values):
        ...     return share.sum(share.of(values).sum())
        >>> int(spread(total, None)(jnp.array([1, 2, 3])))
        6
    """
    if mesh is None:
        return partial(function, EVERYTHING)
    devices = mesh.devices.size

    def on_device(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return function(Share(lax.axis_index(CLIENTS), devices), *args, **kwargs)

    # With its default check, shard_map sums every gradient by a replicated array over the mesh: each client would
    # train on the gradients of all.
    return jax.shard_map(on_device, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """A copy of a tree on every device of a mesh.

    Args:
        tree: arrays or PRNG keys that every process holds.
        mesh: from `client_mesh`; None leaves the tree where it is.

    Returns:
        The tree.
    """
    if mesh is None:
        return tree
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

        return share.sum(lax.cond(share.index == 0, function, nothing, state, *args))

    return spread(on_device, mesh)
