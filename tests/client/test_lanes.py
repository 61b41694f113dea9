"""Clients side by side: every client trains its own steps once, and lanes wait only when no client is left."""

import heapq

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.client.lanes import Work, even_lanes, stack_results, sum_results

EPOCH = 4
"""Longest segment."""


def counting(lengths):
    """Each client counts its steps, the calls of ``advance``, and the row of steps of all lanes that it went along."""
    sizes = jnp.array([*lengths, 0], jnp.int32)

    def segment(place, done):
        return jnp.minimum(EPOCH - done % EPOCH, sizes[jnp.minimum(place, len(lengths))] - done)

    def advance(place, done, steps, progress):
        assert steps.ndim == done.ndim == 0
        return progress + jnp.stack([steps, jnp.int32(1)])

    def finish(place, progress, finished):
        own = jnp.arange(len(lengths), dtype=jnp.int32)[:, None] == place
        return jnp.where(finished & own, progress.reshape(1, 2), 0)

    return Work(lambda place: jnp.zeros(2, jnp.int32), segment, advance, finish)


CASES = [
    *(pytest.param(*case, marks=pytest.mark.long) for case in (((3,), 1), ((7, 5, 4, 1), 2), ((4, 4, 4, 4, 4), 3))),
    ((7, 5, 4, 1), 1),
    ((20, 9, 8, 3, 3, 2, 1, 1, 1), 4),
    ((5, 0, 3, 0), 2),
    ((1, 2, 9, 3), 16),
    ((0, 0), 1),
]


@pytest.mark.parametrize(("lengths", "lanes"), CASES)
def test_every_client_does_its_own_steps_once(lengths, lanes):
    for count in range(len(lengths) + 1):
        work = counting(lengths)
        total = jax.jit(lambda count, work=work: sum_results(work, len(lengths), count, lanes)[0])(count)
        wanted = [length if place < count else 0 for place, length in enumerate(lengths)]
        assert total[:, 0].tolist() == wanted
        rows = jax.jit(lambda count, work=work: stack_results(work, len(lengths), count, lanes))(count)
        assert rows.shape == (len(lengths), len(lengths), 2)
        for place in range(len(lengths)):
            assert rows[place, :, 0].tolist() == [wanted[place] if other == place else 0 for other in range(len(rows))]


def list_scheduling(lengths, lanes):
    """Ends of the lanes where each takes the next client as soon as it is free."""
    ends = [0] * lanes
    for length in lengths:
        heapq.heappush(ends, heapq.heappop(ends) + length)
    return max(ends)


def row_of_steps(lengths, lanes):
    """Steps one after another until all are done, as the lanes took them."""
    longest = []

    def note(steps):
        longest.append(int(steps))

    sizes = jnp.array([*lengths, 0], jnp.int32)

    def advance(place, done, steps, progress):
        jax.debug.callback(note, steps + 0 * place, ordered=False)
        return progress

    work = Work(
        lambda place: jnp.int32(0),
        lambda place, done: jnp.minimum(EPOCH - done % EPOCH, sizes[jnp.minimum(place, len(lengths))] - done),
        advance,
        lambda place, progress, finished: progress,
    )
    jax.block_until_ready(jax.jit(lambda: sum_results(work, len(lengths), len(lengths), lanes))())
    jax.effects_barrier()
    # Every lane told of the same steps.
    return sum(longest) // even_lanes(len(lengths), lanes)


@pytest.mark.parametrize(("lengths", "lanes"), CASES)
def test_a_lane_takes_the_next_client_as_soon_as_it_is_free(lengths, lanes):
    lanes = even_lanes(len(lengths), lanes)
    wanted = list_scheduling(lengths, lanes)
    assert row_of_steps(lengths, lanes) == wanted
    assert wanted <= sum(lengths) / lanes + max(lengths)


def test_unequal_clients_cost_little_more_than_their_steps():
    generator = np.random.default_rng(0)
    lengths = sorted(np.ceil(generator.pareto(2, 60) * 4 + 1).astype(int).tolist(), reverse=True)
    padded = np.array(lengths).reshape(-1, 4).max(axis=1).sum() * 4
    lanes = row_of_steps(lengths, 4) * 4
    assert sum(lengths) <= lanes < padded
    assert lanes <= sum(lengths) + 4 * max(lengths)


def test_batched_over_runs_each_has_its_own_clients():
    def total(count):
        return sum_results(counting((5, 4, 2)), 3, count, 2)[0, :, 0]

    assert jax.vmap(total)(jnp.array([0, 3, 1])).tolist() == [[0, 0, 0], [5, 4, 2], [5, 0, 0]]


def test_nobody_does_nothing():
    work = counting((2, 2))
    assert sum_results(work, 0, 0, 4).sum() == 0
    assert sum_results(work, 2, 0, 4).sum() == 0


def test_what_is_not_finite_stays_with_its_client():
    sizes = jnp.array([2, 3, 0])
    work = Work(
        lambda place: jnp.float32(1),
        lambda place, done: sizes[jnp.minimum(place, 2)] - done,
        lambda place, done, steps, progress: jnp.where(place == 1, jnp.nan, progress * 2),
        lambda place, progress, finished: jnp.where(finished & jnp.isfinite(progress), progress, 0.0),
    )
    assert sum_results(work, 2, 2, 2) == 2


def test_a_single_lane_has_each_function_once_in_its_program():
    work = Work(
        begin=lambda place: jnp.sin(place.astype(jnp.float32)),
        segment=lambda place, done: 3 - done,
        advance=lambda place, done, steps, progress: jnp.cos(progress),
        finish=lambda place, progress, finished: jnp.tan(progress),
    )
    program = str(jax.make_jaxpr(lambda: sum_results(work, 4, 4, 1))())
    assert [program.count(f" {function} ") for function in ("sin", "cos", "tan")] == [1, 1, 1]
