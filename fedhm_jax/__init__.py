"""Federated learning with heterogeneous low-rank models (FedHM), simulated fast in JAX."""
