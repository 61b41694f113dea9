"""Strict numerics in every test: no array changes its type or gains an axis unasked."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
