"""One thread for the library that decomposes matrices on a CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

ASKED = "OPENBLAS_NUM_THREADS"
"""A variable by which a user has said how many threads there should be."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """OpenBLAS, and every other BLAS that is loaded, decomposes with the calling thread alone while the block lasts.

    Its other threads would not sleep between one round's decomposition and the next, but wait for it in a busy loop, on
    the cores that train clients. One thread also gives the same bits however many cores there are. Does nothing where
    ``OPENBLAS_NUM_THREADS`` is set.

    Yields:
        Nothing.

    Example:
        >>> from threadpoolctl import threadpool_info
        >>> with one_blas_thread():
        ...     {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
        {1}
    """
    if ASKED in os.environ:
        yield
        return
    # A limit finds what is loaded, and JAX would load this at its first decomposition.
    import scipy.linalg  # noqa: F401

    with threadpool_limits(limits=1, user_api="blas"):
        yield
