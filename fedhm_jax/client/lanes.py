"""Clients side by side: a few lanes, each of which takes the next client as soon as its own is done."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_NEVER = jnp.iinfo(jnp.int32).max
"""Steps until a lane without a client has something to do."""


class Work(NamedTuple):
    """What a lane does with a client, as pure functions of the client's place in the cohort.

    Attributes:
        begin: ``begin(place) -> progress``, a pytree of arrays.
        segment: ``segment(place, done) -> steps`` that can be done in a row after ``done`` steps (int32), 0 at the end.
        advance: ``advance(place, done, steps, progress) -> progress``, after so many more steps, at most a segment.
        finish: ``finish(place, progress, finished) -> result``, zeros where ``finished`` is False.
    """

    begin: Callable[[jax.Array], Any]
    segment: Callable[[jax.Array, jax.Array], jax.Array]
    advance: Callable[[jax.Array, jax.Array, jax.Array, Any], Any]
    finish: Callable[[jax.Array, Any, jax.Array], Any]


class _Lanes(NamedTuple):
    """Where the lanes are.

    Attributes:
        place: (lanes,) of each lane's client in the cohort; beyond the cohort if there was none left.
        done: (lanes,) steps of that client.
        progress: tree of arrays (lanes, ...).
    """

    place: jax.Array
    done: jax.Array
    progress: Any


def sum_results(work: Work, places: int, count: jax.Array | int, lanes: int) -> Any:
    """Sum of the clients' results; memory grows with the lanes, not with the clients.

    All lanes step together, and no step is masked: they go on until the next one of them has reached the end of a
    segment. Lanes stand still only when no client is left to begin. So clients that come in the order of their size,
    the largest first, cost little more than their own steps: at most ``sum / lanes + largest`` in a row.

    Args:
        work: what to do.
        places: most clients that there can be.
        count: how many there are; places not in use cost nothing.
        lanes: clients side by side.

    Returns:
        The summed pytree.

    Example:
        >>> sizes = jnp.array([3, 2, 1, 0])
        >>> counting = Work(
        ...     begin=lambda place: jnp.int32(0),
        ...     segment=lambda place, done: sizes[place] - done,
        ...     advance=lambda place, done, steps, progress: progress + steps,
        ...     finish=lambda place, progress, finished: jnp.where(finished, progress, 0),
        ... )
        >>> int(sum_results(counting, places=4, count=3, lanes=2))
        6

    Source: Graham, Bounds on Multiprocessing Timing Anomalies (1969), for the bound of list scheduling.
    """

    def add(sums: Any, place: jax.Array, results: Any) -> Any:
        return jax.tree.map(lambda total, values: total + values.sum(0, dtype=total.dtype), sums, results)

    return _work_through(work, places, count, lanes, (), add)


def stack_results(work: Work, places: int, count: jax.Array | int, lanes: int) -> Any:
    """The clients' results one by one; memory grows with the clients.

    Args:
        work: what to do.
        places: most clients that there can be.
        count: how many there are.
        lanes: clients side by side.

    Returns:
        The pytree, every leaf with a leading axis of ``places``, zero for places not in use.
    """

    def put(rows: Any, place: jax.Array, results: Any) -> Any:
        return jax.tree.map(lambda all, some: all.at[place].set(some, mode="drop"), rows, results)

    return _work_through(work, places, count, lanes, (places,), put)


def _work_through(
    work: Work,
    places: int,
    count: jax.Array | int,
    lanes: int,
    leading: tuple[int, ...],
    take_in: Callable[[Any, jax.Array, Any], Any],
) -> Any:
    """Folds ``take_in(collected, places, results)`` over all clients, from zeros with leading axes; a place beyond the
    cohort is that of no client."""
    number = jax.ShapeDtypeStruct((), jnp.int32)
    shapes = jax.eval_shape(work.finish, number, jax.eval_shape(work.begin, number), jax.ShapeDtypeStruct((), bool))
    nothing = jax.tree.map(lambda leaf: jnp.zeros((*leading, *leaf.shape), leaf.dtype), shapes)
    if places == 0:
        return nothing
    lanes = even_lanes(places, lanes)
    each = jax.vmap if lanes > 1 else _alone
    count = jnp.asarray(count, jnp.int32)

    def segments(state: _Lanes) -> jax.Array:
        busy = state.place < count
        return jnp.where(busy, each(work.segment)(state.place, state.done), _NEVER)

    def steps_of_all(state: _Lanes) -> jax.Array:
        steps = segments(state).min()
        # Without a client nothing is done: under vmap, a loop that has ended goes on with the others.
        return jnp.where(steps == _NEVER, 0, steps)

    def advance(state: _Lanes) -> _Lanes:
        steps = steps_of_all(state)

        def some_steps(place: jax.Array, done: jax.Array, progress: Any) -> Any:
            return work.advance(place, done, steps, progress)

        progress = each(some_steps)(state.place, state.done, state.progress)
        return _Lanes(state.place, state.done + steps, progress)

    def next_clients(carry: tuple[_Lanes, jax.Array, Any]) -> tuple[_Lanes, jax.Array, Any]:
        before, following, collected = carry
        state = lax.while_loop(lambda state: steps_of_all(state) > 0, advance, before)
        finished = segments(state) == 0
        results = each(work.finish)(state.place, state.progress, finished)
        collected = take_in(collected, jnp.where(finished, state.place, places), results)
        place = jnp.where(finished, following + jnp.cumsum(finished, dtype=jnp.int32) - 1, state.place)

        def begin_anew(begun: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(finished.reshape(-1, *(1,) * (old.ndim - 1)), begun, old)

        progress = jax.tree.map(begin_anew, each(work.begin)(place), state.progress)
        state = _Lanes(place, jnp.where(finished, 0, state.done), progress)
        return state, following + finished.sum(dtype=jnp.int32), collected

    place = jnp.arange(lanes, dtype=jnp.int32)
    begun = _Lanes(place, jnp.zeros_like(place), each(work.begin)(place))
    start = (begun, jnp.int32(lanes), nothing)
    return lax.while_loop(lambda carry: (carry[0].place < count).any(), next_clients, start)[2]


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap` over an axis of length one, which leaves the function's operations as they are."""

    def call(*args: Any) -> Any:
        result = function(*jax.tree.map(lambda leaf: leaf[0], args))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return call


def even_lanes(places: int, most: int) -> int:
    """Clients side by side, such that clients of equal size leave no lane idle that could have been spared.

    Args:
        places: most clients that there can be, at least 1.
        most: that may train side by side.

    Returns:
        At least 1 and at most ``most``.

    Example:
        >>> even_lanes(10, 16), even_lanes(30, 16), even_lanes(33, 16)
        (10, 15, 11)
    """
    return -(-places // -(-places // most))
