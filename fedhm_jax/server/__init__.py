"""What the server knows and does besides the method: tiers, cohorts, weighted sums, which updates count, privacy."""

from fedhm_jax.server.acceptance import PLAIN_MEAN, MergeRule, accepted_contribution, private_contribution
from fedhm_jax.server.aggregation import Contribution, broadcast_weight, merge, weighted
from fedhm_jax.server.client_devices import DeviceProfile, client_seconds, drop_out, drop_stragglers, samples_trained
from fedhm_jax.server.cohort import Cohort, cohort_capacities, sample_cohort
from fedhm_jax.server.optimizers import server_optimizer
from fedhm_jax.server.privacy import PrivacyAccount, noised, privacy_account
from fedhm_jax.server.robust import merge_robustly
from fedhm_jax.server.tiers import Tier, assign_tiers, make_tiers, tier_sizes

__all__ = [
    "PLAIN_MEAN",
    "Cohort",
    "Contribution",
    "DeviceProfile",
    "MergeRule",
    "PrivacyAccount",
    "Tier",
    "accepted_contribution",
    "assign_tiers",
    "broadcast_weight",
    "client_seconds",
    "cohort_capacities",
    "drop_out",
    "drop_stragglers",
    "make_tiers",
    "merge",
    "merge_robustly",
    "noised",
    "privacy_account",
    "private_contribution",
    "sample_cohort",
    "samples_trained",
    "server_optimizer",
    "tier_sizes",
    "weighted",
]
