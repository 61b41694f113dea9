"""The battery finds planted faults, and says in words what is wrong."""

import jax
import jax.numpy as jnp
import pytest

from fedhm_jax.strategies import fedavg
from fedhm_jax.testing import (
    check_a_server_rate_of_one_is_the_plain_merge,
    check_equals_fedavg_when_all_tiers_are_full,
    check_rounds,
    check_strategy,
)


def sums_in_place_of_means(setting):
    honest = fedavg(setting)

    def aggregate(state, contributions, clients):
        merged = honest.aggregate(state, contributions, clients)
        return jax.tree.map(lambda old, new: old + 2 * (new - old), state, merged)

    return honest._replace(aggregate=aggregate)


def forgets(setting):
    """Shrinks the model also in rounds in which nobody trains."""
    honest = fedavg(setting)

    def aggregate(state, contributions, clients):
        return jax.tree.map(lambda leaf: 0.9 * leaf, honest.aggregate(state, contributions, clients))

    return honest._replace(aggregate=aggregate)


def changes_the_state(setting):
    honest = fedavg(setting)

    def init(params, key):
        return {"params": params, "round": jnp.zeros(3)}

    def inner(function):
        return lambda state, *args: function(state["params"], *args)

    def aggregate(state, *args):
        return {"params": honest.aggregate(state["params"], *args), "round": jnp.zeros(4)}

    functions = {
        name: inner(getattr(honest, name)) for name in ("global_model", "tier_model", "distribute", "contribute")
    }
    return honest._replace(init=init, aggregate=aggregate, **functions)


def changes_the_replacement(setting):
    return fedavg(setting)._replace(replace_model=lambda state, params: jax.tree.map(lambda leaf: leaf + 1, params))


@pytest.mark.parametrize(
    ("build", "check", "sentence"),
    [
        (
            changes_the_replacement,
            check_a_server_rate_of_one_is_the_plain_merge,
            "^with a server optimizer of rate 1 the global model is another than without: they are .* apart, and at "
            "most 1e-10 is rounding$",
        ),
        pytest.param(
            sums_in_place_of_means,
            check_equals_fedavg_when_all_tiers_are_full,
            "^with all tiers full, a round is not FedAvg's: they are .* apart, and at most 1e-12 is rounding$",
            marks=pytest.mark.long,
        ),
        pytest.param(
            forgets,
            check_rounds,
            "^a round in which nobody trained changes the global model: they are .* apart, and at most 0 is rounding$",
            marks=pytest.mark.long,
        ),
        pytest.param(
            changes_the_state,
            check_rounds,
            r"^a round changes shapes or types of the state: from .*round.*\(3,\).* to .*\(4,\)",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_planted_fault_is_said_in_words(build, check, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check(build, "mlp")


@pytest.mark.long
def test_one_call_is_the_whole_battery():
    check_strategy(fedavg)
    with pytest.raises(AssertionError):
        check_strategy(forgets)


def test_nothing_to_move_is_nothing_to_check():
    check_a_server_rate_of_one_is_the_plain_merge(lambda setting: fedavg(setting)._replace(replace_model=None))
