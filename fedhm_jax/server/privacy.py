"""Central differential privacy of whole clients: Gaussian noise on the sum of clipped updates, and what it guarantees.

McMahan, Ramage, Talwar, Zhang: "Learning Differentially Private Recurrent Language Models", ICLR 2018, arXiv
1710.06963, with cohorts of fixed size. Two runs are neighbours if they differ in all the samples of one client. The
server clips every update to length C and adds noise of standard deviation ``z C`` to their sum. Replacing one client
changes the sum by up to ``2 C``, so a round is a Gaussian mechanism with noise of ``z / 2`` sensitivities, on a sample
drawn without replacement. A client's tier is public.

The noised sum moves the server's full-rank model before anything is factorized: what the tiers receive is computed from
it alone, and truncation does not enter the sensitivity.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fedhm_jax.errors import ConfigError
from fedhm_jax.server.aggregation import Contribution, broadcast_weight
from fedhm_jax.tree import Params

# A client's key is the round's, folded with its index, which is below 2^31.
_NOISE_STREAM = np.uint32(2**32 - 1)


class PrivacyAccount(NamedTuple):
    """What the rounds of a run have cost in privacy.

    Attributes:
        epsilon: ``epsilon(rounds)``, of so many rounds together.
        delta: at which it is given.
    """

    epsilon: Callable[[int], float]
    delta: float


def noised(model: Params, updates: Contribution, deviation: float, key: jax.Array) -> Contribution:
    """The clients' models as one contribution, ``(n W + sum_k d_k + noise, n)``.

    Args:
        model: W, the server's.
        updates: clipped updates d_k, summed over the n clients of the cohort, and their weights of 1.
        deviation: standard deviation of the noise on every coordinate.
        key: of the round.

    Returns:
        The contribution.

    Example:
        >>> import jax.numpy as jnp
        >>> updates = Contribution({"w": jnp.array([1.0])}, {"w": jnp.array(2.0)})
        >>> noised({"w": jnp.array([10.0])}, updates, deviation=0.0, key=jax.random.key(0)).total["w"].tolist()
        [21.0]
    """
    leaves, structure = jax.tree.flatten(updates.total)
    keys = jax.random.split(jax.random.fold_in(key, _NOISE_STREAM), len(leaves))
    noise = jax.tree.unflatten(
        structure,
        [deviation * jax.random.normal(own, leaf.shape, leaf.dtype) for own, leaf in zip(keys, leaves, strict=True)],
    )

    def total(weight: jax.Array, update: jax.Array, drawn: jax.Array, old: jax.Array) -> jax.Array:
        return broadcast_weight(weight, old.ndim) * old + (update + drawn)

    return Contribution(jax.tree.map(total, updates.weight, updates.total, noise, model), updates.weight)


def privacy_account(noise_multiplier: float, clients: int, cohort_size: int, delta: float) -> PrivacyAccount:
    """The guarantee of rounds that add noise to clipped updates of cohorts drawn without replacement.

    Renyi divergences of one round, added up over rounds: at every order the smaller of the subsampled Gaussian's bound
    and of the bound that ignores the sampling, which wins where cohorts are large.

    Args:
        noise_multiplier: z, standard deviation of the noise on the sum in units of the clipping length.
        clients: number of registered clients.
        cohort_size: number sampled each round.
        delta: probability with which the guarantee may fail.

    Returns:
        The account.

    Raises:
        ConfigError: the accountant's library is not installed.

    Example:
        >>> account = privacy_account(noise_multiplier=4.0, clients=1000, cohort_size=20, delta=1e-4)
        >>> account.epsilon(1) < account.epsilon(100) < 1
        True

    Source: Wang, Balle, Kasiviswanathan, AISTATS 2019, arXiv 1808.00087, theorem 27, as in the library dp-accounting.
    """
    try:
        from dp_accounting import (
            GaussianDpEvent,
            NeighboringRelation,
            SampledWithoutReplacementDpEvent,
            rdp,
        )
    except ImportError as error:
        raise ConfigError.of(
            "privacy.noise_multiplier",
            noise_multiplier,
            "unset without dp-accounting: pip install 'fedhm-jax[privacy]'",
        ) from error
    mechanism = GaussianDpEvent(noise_multiplier / 2)
    divergences = []
    for event in (mechanism, SampledWithoutReplacementDpEvent(clients, cohort_size, mechanism)):
        accountant = rdp.RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
        accountant.compose(event)
        divergences.append(accountant.rdp)
    one_round = np.minimum(*divergences)
    orders = accountant.orders

    def epsilon(rounds: int) -> float:
        return float(rdp.compute_epsilon(orders, rounds * one_round, delta)[0])

    return PrivacyAccount(epsilon, delta)
