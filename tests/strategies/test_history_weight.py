"""What the old model weighs when it joins FedHM's merge, against the twin's merge in float64; nothing is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import twin

from fedhm_jax.data.client_data import client_by_id
from fedhm_jax.lowrank.decomposition import recover_tree
from fedhm_jax.strategies import fedhm
from fedhm_jax.testing import client_data, first_params, setting_for
from fedhm_jax.tree import named_leaves


def as_numpy(tree):
    return {path: np.asarray(leaf, np.float64) for path, leaf in named_leaves(tree).items()}


def merged(rank_factors, temperature):
    """The merge of two clients of the second tier: before, by the strategy, and what each client trained."""
    setting = setting_for("mlp", rank_factors, weighting="rank_softmax", temperature=temperature, classifier=None)
    strategy = fedhm(setting, decomposition="svd")

    @jax.jit
    def play(params):
        data = client_data(np.float64)
        clients = [client_by_id(data, jnp.int32(number), jnp.bool_(True)) for number in (0, 3)]
        state = strategy.init(params, jax.random.key(0))
        received = [strategy.distribute(state, 1, client) for client in clients]
        trained = [
            jax.tree.map(lambda leaf, by=by: by * leaf, model) for by, model in zip((1.5, -2), received, strict=True)
        ]
        sent = [strategy.contribute(state, 1, model, client) for model, client in zip(trained, clients, strict=True)]
        total = jax.tree.map(jnp.add, *sent)
        nobody = jax.tree.map(jnp.zeros_like, total)
        after = strategy.aggregate(state, [nobody, total], jnp.array([0, 2], jnp.int32))
        return strategy.global_model(after), [recover_tree(model) for model in trained]

    with jax.enable_x64(True):
        params = first_params(setting, jnp.float64)
        found, trained = play(params)
        return as_numpy(params), as_numpy(found), [as_numpy(model) for model in trained]


@pytest.mark.parametrize(("rank_factors", "temperature"), [((2.0, 4.0), 1.0), ((2.0, 4.0), 3.0), ((1.0, 4.0), 2.0)])
def test_the_old_model_weighs_as_one_of_full_rank(rank_factors, temperature):
    before, found, trained = merged(rank_factors, temperature)
    everything, weight = np.ones(3, bool), float(np.exp(-rank_factors[1] / temperature))
    votes = [twin.Vote(model, weight, everything) for model in trained]
    votes.append(twin.Vote(before, float(np.exp(-1 / temperature)), everything))
    wanted = twin.merge(before, votes, None)
    for path, leaf in wanted.items():
        np.testing.assert_allclose(found[path], leaf, rtol=0, atol=1e-10, err_msg=path)
        assert np.abs(leaf - before[path]).max() > 1e-3


def test_where_its_weight_is_beyond_all_bounds_the_old_model_stays():
    before, found, _ = merged((500.0, 1000.0), 0.001)
    for path, leaf in before.items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-12, err_msg=path)
