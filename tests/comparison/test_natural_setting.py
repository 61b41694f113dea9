"""How a report names a setting whose number of clients only the data tell."""

from fedhm_jax.comparison.report import _in_words
from fedhm_jax.config import PartitionConfig, ServerConfig, SimulationConfig


def test_all_clients_and_a_share_of_them():
    def words(**sections):
        return _in_words(SimulationConfig(**sections), {})

    some = words(partition=PartitionConfig("natural"), server=ServerConfig(participation=0.25))
    assert some.startswith("digits, cnn, all clients (natural), 0.25 of them a round, ")
    some = words(partition=PartitionConfig("natural", 40), server=ServerConfig(cohort_size=7))
    assert some.startswith("digits, cnn, 40 clients (natural), 7 a round, ")
    assert words().startswith("digits, cnn, 20 clients (iid), 10 a round, ")
