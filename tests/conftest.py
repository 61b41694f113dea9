"""Strict numerics in every test: no array changes its type or gains an axis unasked. Quick compilation."""

import os

# Most tests compile for longer than they run. The same programs, compiled with less effort, halve the time.
_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}".strip()

import jax  # noqa: E402  reads the flags above

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
