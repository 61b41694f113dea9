"""fedhm_jax beside the tools people use today, on the same FedAvg workload: ``python -m benchmarks.peers``."""
