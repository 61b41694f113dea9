"""What one device works on of a list of clients or test batches, and sums in an order that does not depend on how many
devices there are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

CLIENTS = "clients"
"""Name of the mesh axis."""


PARTS = 8
"""Partial sums that a sum over a list consists of, however many devices there are; the most devices that add up as
one does. A device holds its share of them, each as large as what is summed."""


class Own(NamedTuple):
    """Those of some things that are one device's own.

    Attributes:
        most: how many can be.
        count: how many are.
        place: ``place(own)``, from a number among them to one among all; the number of all where there are not so many.
        part: ``part(own)``, the partial sum that one belongs to, among the device's own.
        gather: ``gather(tree)``, from arrays (most, ...) of this device, zero beyond ``count``, to arrays (things, ...)
            in the order of all, the same on each device.
    """

    most: int
    count: Any
    place: Callable[[Any], Any]
    part: Callable[[Any], Any]
    gather: Callable[[Any], Any]


@dataclass(frozen=True)
class Share:
    """The part of a list of things that one device works on.

    Things are dealt to partial sums in turn, thing t to part ``t % parts``, and so are parts to devices. Each part is
    added up by one device in the order of the list, and the parts in the order of their numbers: so a sum has the same
    bits on any number of devices. Neighbours in a list ordered by size go to different devices, so no device waits long
    for another.

    Attributes:
        index: number of the device on the mesh.
        devices: how many there are.
        parts: of a sum, at least ``devices``.

    Example:
        >>> second = Share(1, devices=2, parts=4)
        >>> [second.place(own) for own in range(second.count(7))]
        [1, 3, 5]
    """

    index: Any
    devices: int
    parts: int

    @property
    def own_parts(self) -> Any:
        """How many parts are the device's own."""
        return -((self.index - self.parts) // self.devices)

    @property
    def most_parts(self) -> int:
        """How many parts a device has at most."""
        return -(-self.parts // self.devices)

    def count(self, things: Any) -> Any:
        """How many of a list's things are the device's own.

        Args:
            things: length of the list.

        Returns:
            The number.
        """
        return things // self.parts * self.own_parts - (self.index - things % self.parts) // self.devices

    def most(self, things: int) -> int:
        """How many of so many neighbours in a list, wherever they begin, can be the device's own.

        Args:
            things: how many neighbours.

        Returns:
            A number that `count` stays within.
        """
        turns, rest = divmod(things, self.parts)
        uneven = self.parts % self.devices > 0  # then the last part and the first can have one device
        return turns * self.most_parts + min(-(-rest // self.devices) + uneven, self.most_parts, rest)

    def place(self, own: Any) -> Any:
        """Where one of the device's own things stands in the list.

        Args:
            own: its number among them.

        Returns:
            Its number in the list.
        """
        if self.devices == 1:
            return own
        return own // self.own_parts * self.parts + self.part(own) * self.devices + self.index

    def part(self, own: Any) -> Any:
        """The partial sum that one of the device's own things belongs to.

        Args:
            own: its number among them.

        Returns:
            The number of the part among the device's own.
        """
        return own % self.own_parts

    def neighbours(self, first: Any, used: Any, things: int) -> Own:
        """The device's own of some neighbours in the list.

        Args:
            first: number in the list of the first of them.
            used: how many there are.
            things: how many there can be.

        Returns:
            The device's own.
        """
        before = self.count(first)
        return Own(
            most=self.most(things),
            count=self.count(first + used) - before,
            place=lambda own: jnp.minimum(self.place(before + own) - first, things),
            part=lambda own: self.part(before + own),
            gather=lambda tree: self.gather(tree, first, things),
        )

    def held(self, holders: jax.Array, used: Any) -> Own:
        """The device's own of things that are on one device each, for a share that is undivided.

        Args:
            holders: (things,) number of each one's device.
            used: how many of them there are.

        Returns:
            The device's own, in their order.

        Example:
            >>> own = Share(1, devices=2, parts=2).held(jnp.array([1, 0, 1, 0, 1]), used=4)
            >>> int(own.count), own.place(jnp.arange(2)).tolist()
            (2, [0, 2])
        """
        things = len(holders)
        mine = (holders == self.index) & (jnp.arange(things, dtype=jnp.int32) < used)
        order = jnp.argsort(~mine, stable=True).astype(jnp.int32)
        places = jnp.pad(order, (0, 1), constant_values=things)

        def scatter(rows: jax.Array) -> jax.Array:
            return lax.psum(jnp.zeros_like(rows).at[order].set(rows), CLIENTS)

        return Own(
            most=things,
            count=mine.sum(dtype=jnp.int32),
            place=lambda own: places[jnp.minimum(own, things)],
            part=jnp.zeros_like,
            gather=lambda tree: jax.tree.map(scatter, tree),
        )

    def undivided(self) -> "Share":
        """The share with a single partial sum a device."""
        return replace(self, parts=self.devices)

    def total(self, rows: Any) -> Any:
        """Sum over the parts of all devices, one after another, the same on each device.

        Args:
            rows: tree of arrays (most_parts, ...) of this device, its parts in the first rows.

        Returns:
            The tree of sums.
        """
        return jax.tree.map(self._total, rows)

    def _total(self, rows: jax.Array) -> jax.Array:
        if self.devices == 1:
            return _in_order(rows[:, None], self.parts)
        # Each device adds up a slice of the numbers of all parts, and hands the sums on. A sum over devices would add
        # in an order that depends on their number.
        flat = rows.reshape(len(rows), -1)
        size = flat.shape[1]
        flat = jnp.pad(flat, ((0, 0), (0, -size % self.devices)))
        slices = lax.all_to_all(flat.reshape(len(rows), self.devices, -1), CLIENTS, split_axis=1, concat_axis=1)
        sums = lax.all_gather(_in_order(slices, self.parts), CLIENTS, tiled=True)
        return sums[:size].reshape(rows.shape[1:])

    def gather(self, tree: Any, first: Any, things: int) -> Any:
        """What the devices hold for their own things, in the order of the list, the same on each device.

        Args:
            tree: arrays (most(things), ...) of this device.
            first: number in the list of the first of the things.
            things: how many there are.

        Returns:
            Tree of arrays (things, ...).
        """
        if self.devices == 1:
            return tree
        place = first + jnp.arange(things, dtype=jnp.int32)
        part = place % self.parts
        holder = Share(part % self.devices, self.devices, self.parts)
        own = place // self.parts * holder.own_parts + part // self.devices - holder.count(first)
        return jax.tree.map(lambda rows: lax.all_gather(rows, CLIENTS)[holder.index, own], tree)


EVERYTHING = Share(0, 1, PARTS)
"""The share of a device that is alone."""


def _in_order(slices: jax.Array, parts: int) -> jax.Array:
    """Sum of (turns, devices, ...) over both axes, row after row, of so many parts."""

    def add(part: jax.Array, total: jax.Array) -> jax.Array:
        return total + slices[part // slices.shape[1], part % slices.shape[1]]

    return lax.fori_loop(0, parts, add, jnp.zeros_like(slices[0, 0]))
