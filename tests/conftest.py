"""Every test: strict numerics (no array changes its type or gains an axis unasked), quick compilation, four devices."""

import os
import signal

# A shell starts jobs in the background with Ctrl-C ignored, and processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Most tests compile for longer than they run. The same programs, compiled with less effort, halve the time.
_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# Tests of sharding need more devices than one; everything else runs on the first.
_DEVICES = "--xla_force_host_platform_device_count=4"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK} {_DEVICES}".strip()

import jax  # noqa: E402  reads the flags above

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
