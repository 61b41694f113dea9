"""Clients side by side: a few lanes, each of which takes the next client as soon as its own is done."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

_NEVER = jnp.iinfo(jnp.int32).max
"""Steps until a lane without a client has something to do."""


ProgressT = TypeVar("ProgressT")
ResultT = TypeVar("ResultT")


class Work(NamedTuple, Generic[ProgressT, ResultT]):
    """What a lane does with a client, as pure functions of the client's slot in the cohort.

    Attributes:
        begin: ``begin(slot) -> progress``, a pytree of arrays.
        segment: ``segment(slot, done) -> steps`` that can be done in a row after ``done`` steps (int32), 0 at the end.
        advance: ``advance(slot, done, steps, progress) -> progress``, after so many more steps, at most a segment.
        finish: ``finish(slot, progress, finished) -> result``, zeros where ``finished`` is False.
    """

    begin: Callable[[jax.Array], ProgressT]
    segment: Callable[[jax.Array, jax.Array], jax.Array]
    advance: Callable[[jax.Array, jax.Array, jax.Array, ProgressT], ProgressT]
    finish: Callable[[jax.Array, ProgressT, jax.Array], ResultT]


class _Lanes(NamedTuple, Generic[ProgressT]):
    """Where the lanes are.

    Attributes:
        slot: (lanes,) of each lane's client in the cohort; beyond the cohort if there was none left.
        done: (lanes,) steps of that client.
        progress: tree of arrays (lanes, ...).
    """

    slot: jax.Array
    done: jax.Array
    progress: ProgressT


def sum_results(
    work: Work[ProgressT, ResultT],
    slots: int,
    count: jax.Array | int,
    lanes: int,
    parts: int = 1,
    part: Callable[[jax.Array], jax.Array] = jnp.zeros_like,
) -> ResultT:
    """Partial sums of the clients' results; memory grows with the parts and the lanes, not with the clients.

    All lanes step together, and no step is masked: they go on until the next one of them has reached the end of a
    segment. Lanes stand still only when no client is left to begin. So clients that come in the order of their size,
    the largest first, cost little more than their own steps: at most ``sum / lanes + largest`` in a row.

    A single lane adds its clients up in their order. Several lanes do so in the order in which they come to an end, and
    what ends together in one go.

    Args:
        work: what to do.
        slots: most clients that there can be.
        count: how many there are; slots not in use cost nothing.
        lanes: clients side by side.
        parts: number of sums; one where there are several lanes.
        part: ``part(slot)``, the number of the sum that a client's result goes to.

    Returns:
        The pytree, every leaf with a leading axis of ``parts``.

    Example:
        >>> sizes = jnp.array([3, 2, 1, 0])
        >>> counting = Work(
        ...     begin=lambda slot: jnp.int32(0),
        ...     segment=lambda slot, done: sizes[slot] - done,
        ...     advance=lambda slot, done, steps, progress: progress + steps,
        ...     finish=lambda slot, progress, finished: jnp.where(finished, progress, 0),
        ... )
        >>> sum_results(counting, slots=4, count=3, lanes=2).tolist()
        [6]
        >>> sum_results(counting, slots=4, count=3, lanes=1, parts=2, part=lambda slot: slot % 2).tolist()
        [4, 2]

    Source: Graham, Bounds on Multiprocessing Timing Anomalies (1969), for the bound of list scheduling.
    """
    assert lanes == 1 or parts == 1, "what ends together goes to one sum"

    def add(sums: ResultT, slot: jax.Array, results: ResultT) -> ResultT:
        row = part(slot[0])
        return jax.tree.map(lambda rows, some: rows.at[row].add(some.sum(0, dtype=rows.dtype)), sums, results)

    return _work_through(work, slots, count, lanes, (parts,), add)


def stack_results(work: Work[ProgressT, ResultT], slots: int, count: jax.Array | int, lanes: int) -> ResultT:
    """The clients' results one by one; memory grows with the clients.

    Args:
        work: what to do.
        slots: most clients that there can be.
        count: how many there are.
        lanes: clients side by side.

    Returns:
        The pytree, every leaf with a leading axis of ``slots``, zero for slots not in use.
    """

    def put(rows: ResultT, slot: jax.Array, results: ResultT) -> ResultT:
        return jax.tree.map(lambda all, some: all.at[slot].set(some, mode="drop"), rows, results)

    return _work_through(work, slots, count, lanes, (slots,), put)


def result_shapes(work: Work[ProgressT, ResultT]) -> ResultT:
    """Shapes and dtypes of one client's result.

    Args:
        work: what to do.

    Returns:
        The result, a `jax.ShapeDtypeStruct` for each array.
    """
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return jax.eval_shape(work.finish, number, jax.eval_shape(work.begin, number), jax.ShapeDtypeStruct((), bool))


def _work_through(
    work: Work[ProgressT, ResultT],
    slots: int,
    count: jax.Array | int,
    lanes: int,
    leading: tuple[int, ...],
    take_in: Callable[[ResultT, jax.Array, ResultT], ResultT],
) -> ResultT:
    """Folds ``take_in(collected, slots, results)`` over all clients, from zeros with leading axes; a slot beyond the
    cohort is that of no client."""
    nothing = jax.tree.map(lambda leaf: jnp.zeros((*leading, *leaf.shape), leaf.dtype), result_shapes(work))
    if slots == 0:
        return nothing
    lanes, count = even_lanes(slots, lanes), jnp.asarray(count, jnp.int32)
    if lanes == 1:
        return _one_after_another(work, count, take_in, nothing)
    return _side_by_side(work, slots, count, lanes, take_in, nothing)


def _one_after_another(
    work: Work[ProgressT, ResultT],
    count: jax.Array,
    take_in: Callable[[ResultT, jax.Array, ResultT], ResultT],
    nothing: ResultT,
) -> ResultT:
    """A single lane's clients. Nothing asks which lanes are done, and training stands once in the program."""

    def one(slot: jax.Array, collected: ResultT) -> ResultT:
        def segment(done: jax.Array) -> jax.Array:
            # Under vmap, a loop that has ended goes on with the others.
            return jnp.where(slot < count, work.segment(slot, done), 0)

        def advance(carry: tuple[jax.Array, jax.Array, ProgressT]) -> tuple[jax.Array, jax.Array, ProgressT]:
            done, steps, progress = carry
            after = done + steps
            return after, segment(after), work.advance(slot, done, steps, progress)

        start = (jnp.int32(0), segment(jnp.int32(0)), work.begin(slot))
        *_, progress = lax.while_loop(lambda carry: carry[1] > 0, advance, start)
        result = work.finish(slot, progress, jnp.bool_(True))
        return take_in(collected, slot[None], jax.tree.map(lambda leaf: leaf[None], result))

    return lax.fori_loop(0, count, one, nothing)


def _side_by_side(
    work: Work[ProgressT, ResultT],
    slots: int,
    count: jax.Array,
    lanes: int,
    take_in: Callable[[ResultT, jax.Array, ResultT], ResultT],
    nothing: ResultT,
) -> ResultT:
    """The clients of several lanes."""

    def segments(state: _Lanes[ProgressT]) -> jax.Array:
        busy = state.slot < count
        return jnp.where(busy, jax.vmap(work.segment)(state.slot, state.done), _NEVER)

    def steps_of_all(state: _Lanes[ProgressT]) -> jax.Array:
        steps = segments(state).min()
        # Without a client nothing is done: under vmap, a loop that has ended goes on with the others.
        return jnp.where(steps == _NEVER, 0, steps)

    def advance(state: _Lanes[ProgressT]) -> _Lanes[ProgressT]:
        steps = steps_of_all(state)

        def some_steps(slot: jax.Array, done: jax.Array, progress: ProgressT) -> ProgressT:
            return work.advance(slot, done, steps, progress)

        progress = jax.vmap(some_steps)(state.slot, state.done, state.progress)
        return _Lanes(state.slot, state.done + steps, progress)

    def next_clients(
        carry: tuple[_Lanes[ProgressT], jax.Array, ResultT],
    ) -> tuple[_Lanes[ProgressT], jax.Array, ResultT]:
        before, following, collected = carry
        state = lax.while_loop(lambda state: steps_of_all(state) > 0, advance, before)
        finished = segments(state) == 0
        results = jax.vmap(work.finish)(state.slot, state.progress, finished)
        collected = take_in(collected, jnp.where(finished, state.slot, slots), results)
        slot = jnp.where(finished, following + jnp.cumsum(finished, dtype=jnp.int32) - 1, state.slot)

        def begin_anew(begun: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(finished.reshape(-1, *(1,) * (old.ndim - 1)), begun, old)

        progress = jax.tree.map(begin_anew, jax.vmap(work.begin)(slot), state.progress)
        state = _Lanes(slot, jnp.where(finished, 0, state.done), progress)
        return state, following + finished.sum(dtype=jnp.int32), collected

    slot = jnp.arange(lanes, dtype=jnp.int32)
    begun = _Lanes(slot, jnp.zeros_like(slot), jax.vmap(work.begin)(slot))
    start = (begun, jnp.int32(lanes), nothing)
    return lax.while_loop(lambda carry: (carry[0].slot < count).any(), next_clients, start)[2]


def even_lanes(slots: int, most: int) -> int:
    """Clients side by side, such that clients of equal size leave no lane idle that could have been spared.

    Args:
        slots: most clients that there can be, at least 1.
        most: that may train side by side.

    Returns:
        At least 1 and at most ``most``.

    Example:
        >>> even_lanes(10, 16), even_lanes(30, 16), even_lanes(33, 16)
        (10, 15, 11)
    """
    return -(-slots // -(-slots // most))
