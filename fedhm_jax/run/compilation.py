"""Programs that are compiled side by side."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Compiling:
    """A jitted function that is compiled in a thread, so that the caller can trace the next one meanwhile.

    Args:
        function: from `jax.jit`; shapes, types and devices of its arguments are those of its first call for good.

    Example:
        >>> import jax.numpy as jnp
        >>> double, half = Compiling(jax.jit(lambda x: 2 * x)), Compiling(jax.jit(lambda x: x / 2))
        >>> for function in (double, half):
        ...     function.begin(jnp.ones(3))
        >>> half(double(jnp.arange(3.0))).tolist()
        [0.0, 1.0, 2.0]
    """

    def __init__(self, function: jax.stages.Wrapped) -> None:
        self._function = function
        self._program: Future[jax.stages.Compiled] | None = None

    def begin(self, *args: Any) -> None:
        """Traces the function and starts its compilation, unless that was done.

        Args:
            args: as it will be called.
        """
        self._begun(args)

    def __call__(self, *args: Any) -> Any:
        """What the function returns; raises what its compilation has raised."""
        return self._begun(args).result()(*args)

    def _begun(self, args: tuple[Any, ...]) -> "Future[jax.stages.Compiled]":
        if self._program is None:
            # Traced by the caller: a thread does not see settings of JAX that hold in the caller's alone.
            lowered = self._function.lower(*args)
            # Its thread is no daemon: Python ends such threads at its own end, and aborts when they are inside of C++.
            thread = ThreadPoolExecutor(max_workers=1)
            self._program = thread.submit(lowered.compile)
            thread.shutdown(wait=False)
        return self._program
