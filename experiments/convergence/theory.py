"""Where the rounds come to rest when all clients have the curvature of the identity."""

import numpy as np

from fedhm_jax.models.rank_plan import rank_for


def resting_values(
    spectrum: np.ndarray, rank_factors: tuple[float, ...], learning_rate: float, halvings: int = 100
) -> np.ndarray:
    """Singular values of the W that a round maps to itself.

    With ``X_k^T X_k / n = I`` the gradient is ``W - W*``, and W may share the singular directions of W*. Then each of
    its values w, whose goal is s, moves by itself. In one round

        w + eta (s - w)           at a client that holds the whole kernel,
        w (1 + eta (s - w))^2     at a client whose rank reaches this direction: both factors are sqrt(w),
        0                         at a client whose rank does not,

    and the server takes the mean over the tiers. The value at rest lies in [0, s] and is found by bisection.

    Args:
        spectrum: (size,) singular values s of W*, falling; W* is square.
        rank_factors: f of each tier, the tiers of equal size.
        learning_rate: eta.
        halvings: of the interval [0, s].

    Returns:
        (size,) values at rest.
    """
    size = len(spectrum)
    ranks = [rank_for((size, size), factor) for factor in rank_factors]
    place = np.arange(size)

    def next_values(values: np.ndarray) -> np.ndarray:
        step = learning_rate * (spectrum - values)
        clients = [
            values + step if rank is None else np.where(place < rank, values * (1 + step) ** 2, 0) for rank in ranks
        ]
        return np.mean(clients, axis=0)

    low, high = np.zeros(size), spectrum.astype(float)
    for _ in range(halvings):
        middle = (low + high) / 2
        grows = next_values(middle) > middle
        low, high = np.where(grows, middle, low), np.where(grows, high, middle)
    return (low + high) / 2


def floor_of_segments(spectrum: np.ndarray, rank_factors: tuple[float, ...], learning_rate: float) -> float:
    """The same under the merge by rank segments, which reaches all that somebody holds.

    A direction is averaged over the clients that hold it, and each of these leaves it alone at its goal. So W* itself
    is at rest where some tier holds the whole kernel, and otherwise W* truncated to the largest rank.

    Args:
        spectrum: as in `resting_values`.
        rank_factors: likewise.
        learning_rate: likewise; it does not matter.

    Returns:
        The norm.
    """
    ranks = [rank_for((len(spectrum), len(spectrum)), factor) for factor in rank_factors]
    largest = len(spectrum) if None in ranks else max(rank for rank in ranks if rank is not None)
    return float(np.linalg.norm(spectrum[largest:]))


def gradient_floor(spectrum: np.ndarray, rank_factors: tuple[float, ...], learning_rate: float) -> float:
    """Norm of the global gradient at rest, ``||W - W*||_F``.

    Args:
        spectrum: as in `resting_values`.
        rank_factors: likewise.
        learning_rate: likewise.

    Returns:
        The norm.
    """
    return float(np.linalg.norm(spectrum - resting_values(spectrum, rank_factors, learning_rate)))
