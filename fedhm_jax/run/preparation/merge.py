"""How a run's updates are judged, merged and noised, and the combinations that are refused."""

import jax

from fedhm_jax.config import SimulationConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.run.preparation.learning import client_of
from fedhm_jax.server import Contribution, MergeRule, PrivacyAccount, privacy_account
from fedhm_jax.strategies import Setting, State, Strategy


def build_rule(
    config: SimulationConfig, setting: Setting, strategy: Strategy[State], classes: int, handed_over: bool
) -> MergeRule:
    """The run's merge rule.

    Args:
        config: the run's config.
        setting: what the strategy was built for.
        strategy: the federated method.
        classes: number of classes.
        handed_over: the strategy is not one that the config names.

    Returns:
        The rule.

    Raises:
        ConfigError: the strategy or the model cannot be merged like this, or the privacy guarantee would not hold.
    """
    aggregation, multiplier = config.aggregation, config.privacy.noise_multiplier
    if aggregation.merge != "mean" and not _in_server_shapes(setting, strategy, classes):
        raise ConfigError.of("aggregation.merge", aggregation.merge, f"'mean' for {_OTHER_SHAPES}")
    if multiplier is not None:
        _check_privacy(multiplier, setting, strategy, classes, handed_over)
    clip = None if aggregation.clip is None else float(aggregation.clip)
    reject = None if aggregation.reject is None else float(aggregation.reject)
    noise = None if multiplier is None or clip is None else multiplier * clip
    return MergeRule(aggregation.merge, aggregation.trim, clip, reject, noise)


def build_account(config: SimulationConfig, clients: int, cohort_size: int) -> PrivacyAccount | None:
    """What the run's rounds cost in privacy.

    Args:
        config: the run's config.
        clients: number of registered clients.
        cohort_size: number of clients sampled each round.

    Returns:
        The account, or None without privacy.

    Raises:
        ConfigError: the accountant's library is not installed.
    """
    privacy = config.privacy
    if privacy.noise_multiplier is None:
        return None
    delta = clients**-1.1 if privacy.delta is None else privacy.delta
    return privacy_account(privacy.noise_multiplier, clients, cohort_size, delta)


_OTHER_SHAPES = "a strategy whose tiers contribute in other shapes than the server's (those of 'fedhm' do not)"


def _check_privacy(
    multiplier: float, setting: Setting, strategy: Strategy[State], classes: int, handed_over: bool
) -> None:
    field = "privacy.noise_multiplier"
    if handed_over:
        reason = "unset with a strategy that is handed over, whose merge need not be a mean of the clients' models"
        raise ConfigError.of(field, multiplier, reason)
    if setting.has_statistics:
        reason = "unset for a model with static batch norm, whose statistics are measured on the clients' samples"
        raise ConfigError.of(field, multiplier, reason)
    if not _in_server_shapes(setting, strategy, classes):
        raise ConfigError.of(field, multiplier, f"unset for {_OTHER_SHAPES}")
    weights = [jax.tree.leaves(contribution.weight) for contribution in _contributions(setting, strategy, classes)]
    if any(leaf.shape != () for leaves in weights for leaf in leaves):
        reason = "unset for a strategy whose clients train different parts, since what is trained tells who was sampled"
        raise ConfigError.of(field, multiplier, reason)


def _in_server_shapes(setting: Setting, strategy: Strategy[State], classes: int) -> bool:
    """Whether every tier's client contributes a tree of the global model's shapes."""
    model = jax.eval_shape(lambda params, key: strategy.global_model(strategy.init(params, key)), *_start(setting))
    contributions = _contributions(setting, strategy, classes)
    return all(_shapes(contribution.total) == _shapes(model) for contribution in contributions)


def _contributions(setting: Setting, strategy: Strategy[State], classes: int) -> list[Contribution]:
    """Shapes of what one client of each tier contributes."""
    client = client_of(classes)
    state = jax.eval_shape(strategy.init, *_start(setting))

    def contribution(tier: int) -> Contribution:
        return jax.eval_shape(
            lambda state: strategy.contribute(state, tier, strategy.distribute(state, tier, client), client), state
        )

    return [contribution(tier) for tier in range(len(setting.rank_factors))]


def _start(setting: Setting) -> tuple[object, jax.Array]:
    return setting.shapes, jax.random.key(0)


def _shapes(tree: object) -> object:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]
