"""How samples are dealt out to clients: pure functions of the labels and a seed.

Every function returns one array of sample indices per client. The arrays are disjoint, their order is random, and
the same arguments always give the same arrays.
"""

import math
from collections.abc import Sequence

import numpy as np

from fedhm_jax.errors import ConfigError


def partition(
    method: str,
    labels: np.ndarray,
    classes: int,
    *,
    clients: int,
    alpha: float,
    min_samples: int,
    classes_per_client: int,
    seed: int,
) -> list[np.ndarray]:
    """Deals samples out to clients with the named method; each method reads only the options it needs.

    Args:
        method: "iid", "dirichlet", "dirichlet_equal", "shards" or "quantity".
        labels: (n,) class numbers in [0, classes).
        classes: number of classes.
        clients: number of clients.
        alpha: concentration of the Dirichlet draws (dirichlet, dirichlet_equal, quantity).
        min_samples: floor on a client's number of samples (dirichlet, quantity).
        classes_per_client: label shards per client (shards).
        seed: seed of every draw.

    Returns:
        One array of indices into ``labels`` per client.

    Raises:
        ConfigError: if the method is unknown or an option cannot be met by the data.

    Example:
        >>> labels = np.repeat(np.arange(3), 4)
        >>> options = {"clients": 3, "alpha": 1.0, "min_samples": 1, "classes_per_client": 1, "seed": 0}
        >>> sorted(sorted(part.tolist()) for part in partition("shards", labels, 3, **options))
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    """
    if method == "shards" and classes_per_client > classes:
        raise ConfigError.of(
            "partition.classes_per_client", classes_per_client, f"at most {classes}, the number of classes"
        )
    methods = {
        "iid": lambda: iid(labels, clients, seed),
        "dirichlet": lambda: dirichlet(labels, clients, alpha, min_samples, seed),
        "dirichlet_equal": lambda: dirichlet_equal(labels, clients, alpha, seed),
        "shards": lambda: shards(labels, clients, classes_per_client, seed),
        "quantity": lambda: quantity_skew(labels, clients, alpha, min_samples, seed),
    }
    if method not in methods:
        raise ConfigError.of("partition.method", method, f"one of {', '.join(methods)}")
    return methods[method]()


def partition_unlabelled(
    method: str, samples: int, *, clients: int, alpha: float, min_samples: int, seed: int
) -> list[np.ndarray]:
    """Deals samples without classes out, such as windows of a text, as `partition` does where classes do not matter.

    Args:
        method: "iid" or "quantity".
        samples: their number.
        clients: number of clients.
        alpha: concentration of the Dirichlet draw (quantity).
        min_samples: floor on a client's number of samples (quantity).
        seed: seed of every draw.

    Returns:
        One array of sample indices per client.

    Raises:
        ConfigError: the method needs classes, or an option cannot be met by the data.

    Example:
        >>> parts = partition_unlabelled("iid", 10, clients=4, alpha=1.0, min_samples=1, seed=0)
        >>> [part.size for part in parts]
        [3, 3, 2, 2]
    """
    if method not in ("iid", "quantity"):
        allowed = "'iid', 'quantity', 'natural' or 'given' for samples without classes"
        raise ConfigError.of("partition.method", method, allowed)
    labels = np.zeros(samples, np.int32)
    return partition(
        method,
        labels,
        1,
        clients=clients,
        alpha=alpha,
        min_samples=min_samples,
        classes_per_client=1,
        seed=seed,
    )


def iid(labels: np.ndarray, clients: int, seed: int) -> list[np.ndarray]:
    """Shuffles all samples and deals them out evenly; sizes differ by at most one.

    Args:
        labels: (n,) class numbers; only their number matters.
        clients: number of clients, at most n.
        seed: seed of the shuffle.

    Returns:
        One array of indices per client; together they hold every sample once.

    Raises:
        ConfigError: if there are more clients than samples.

    Example:
        >>> [part.size for part in iid(np.zeros(10, int), clients=4, seed=0)]
        [3, 3, 2, 2]
    """
    _check_clients(clients, len(labels))
    return np.array_split(np.random.default_rng(seed).permutation(len(labels)), clients)


def dirichlet(labels: np.ndarray, clients: int, alpha: float, min_samples: int, seed: int) -> list[np.ndarray]:
    """Label skew: each class is split over the clients in proportions p_c ~ Dirichlet(alpha, ..., alpha).

    A small alpha gives each class to few clients, a large alpha to all alike; sizes follow from the draws. Clients
    left below the floor then receive random samples, one at a time, each from whoever is largest at that moment.

    Args:
        labels: (n,) class numbers.
        clients: number of clients, at most n.
        alpha: concentration, positive.
        min_samples: floor on a client's number of samples, at least 1; ``min_samples * clients`` is at most n.
        seed: seed of every draw.

    Returns:
        One array of indices per client; together they hold every sample once.

    Raises:
        ConfigError: if an argument is out of range for this number of samples.

    Example:
        >>> parts = dirichlet(np.repeat(np.arange(10), 50), clients=5, alpha=0.01, min_samples=20, seed=0)
        >>> min(part.size for part in parts) >= 20, sum(part.size for part in parts)
        (True, 500)

    Source:
        Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", ICML 2019, section 4;
        the floor is ours.
    """
    _check_clients(clients, len(labels))
    _check_alpha(alpha)
    _check_floor(min_samples, clients, len(labels))
    rng = np.random.default_rng(seed)
    pieces: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        for client, piece in enumerate(_split_by_share(members, _dirichlet_shares(rng, np.ones(clients), alpha))):
            pieces[client].append(piece)
    return _lift_to_floor([np.concatenate(own) for own in pieces], min_samples, rng)


def dirichlet_equal(labels: np.ndarray, clients: int, alpha: float, seed: int) -> list[np.ndarray]:
    """Label skew with equal sizes: every client gets floor(n / clients) samples of its own class mix.

    With C classes of overall shares pi, client k draws a mix q_k ~ Dirichlet(alpha * C * pi), whose mean is pi, and
    draws its samples from the classes by q_k, without replacement. Once a class is exhausted, its share goes to the
    client's other classes in proportion to q_k; once all of those are exhausted, to whatever is left, in proportion
    to what is left. The clients served last therefore follow their own mix less closely; clients are served in
    random order, so that a client's number says nothing. The n mod clients samples that remain are left out.

    Args:
        labels: (n,) class numbers.
        clients: number of clients, at most n.
        alpha: concentration, positive; smaller is more skewed.
        seed: seed of every draw.

    Returns:
        One array of floor(n / clients) indices per client.

    Raises:
        ConfigError: if an argument is out of range for this number of samples.

    Example:
        >>> [part.size for part in dirichlet_equal(np.arange(100) % 10, clients=3, alpha=0.1, seed=0)]
        [33, 33, 33]

    Source:
        Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
        Classification", arXiv 1909.06335, section 3; what happens when a class runs out is as said above.
    """
    _check_clients(clients, len(labels))
    _check_alpha(alpha)
    rng = np.random.default_rng(seed)
    size = len(labels) // clients
    left = np.unique(labels, return_counts=True)[1]
    concentration = left.size * left / left.sum()
    # Each class is one shuffled run of a single array; a client takes the next samples of each run.
    by_class = _shuffled_by_label(labels, rng)
    next_sample = np.cumsum(left) - left
    parts: list[np.ndarray] = [np.empty(0, np.int64)] * clients
    for client in rng.permutation(clients):
        counts = _draw_counts(rng, size, _dirichlet_shares(rng, concentration, alpha), left)
        taken = [by_class[start : start + count] for start, count in zip(next_sample, counts, strict=True)]
        parts[client] = rng.permutation(np.concatenate(taken))
        left = left - counts
        next_sample = next_sample + counts
    return parts


def shards(labels: np.ndarray, clients: int, classes_per_client: int, seed: int) -> list[np.ndarray]:
    """Few classes a client: label-sorted samples are cut into shards, each client is dealt a fixed number of them.

    There are ``clients * classes_per_client`` shards, whose sizes differ by at most one. A shard that spans the
    boundary between two labels holds both, so a client may see a few more than ``classes_per_client`` classes.

    Args:
        labels: (n,) class numbers.
        clients: number of clients.
        classes_per_client: shards per client; the number of shards is at most n.
        seed: seed of the order within a label and of the deal.

    Returns:
        One array of indices per client; together they hold every sample once.

    Raises:
        ConfigError: if an argument is out of range for this number of samples.

    Example:
        >>> labels = np.repeat(np.arange(4), 5)
        >>> [np.unique(labels[part]).size for part in shards(labels, clients=2, classes_per_client=2, seed=0)]
        [2, 2]

    Source:
        McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
        section 3.
    """
    _check_clients(clients, len(labels))
    if classes_per_client < 1:
        raise ConfigError.of("partition.classes_per_client", classes_per_client, "at least 1")
    total = clients * classes_per_client
    if total > len(labels):
        raise ConfigError.of(
            "partition.classes_per_client",
            classes_per_client,
            f"at most {len(labels) // clients}, since {clients} clients share {len(labels)} samples",
        )
    rng = np.random.default_rng(seed)
    pieces = np.array_split(_shuffled_by_label(labels, rng), total)
    deal = rng.permutation(total).reshape(clients, classes_per_client)
    return [rng.permutation(np.concatenate([pieces[shard] for shard in own])) for own in deal]


def quantity_skew(labels: np.ndarray, clients: int, alpha: float, min_samples: int, seed: int) -> list[np.ndarray]:
    """Sizes skewed, labels iid: shuffled samples are split in proportions p ~ Dirichlet(alpha, ..., alpha).

    Clients below the floor are filled up as in `dirichlet`.

    Args:
        labels: (n,) class numbers; only their number matters.
        clients: number of clients, at most n.
        alpha: concentration, positive; smaller is more skewed.
        min_samples: floor on a client's number of samples, at least 1; ``min_samples * clients`` is at most n.
        seed: seed of every draw.

    Returns:
        One array of indices per client; together they hold every sample once.

    Raises:
        ConfigError: if an argument is out of range for this number of samples.

    Example:
        >>> parts = quantity_skew(np.zeros(100, int), clients=4, alpha=0.1, min_samples=5, seed=0)
        >>> min(part.size for part in parts) >= 5, sum(part.size for part in parts)
        (True, 100)

    Source:
        Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", arXiv 2102.02079, section 3
        (quantity skew).
    """
    _check_clients(clients, len(labels))
    _check_alpha(alpha)
    _check_floor(min_samples, clients, len(labels))
    rng = np.random.default_rng(seed)
    shares = _dirichlet_shares(rng, np.ones(clients), alpha)
    return _lift_to_floor(_split_by_share(rng.permutation(len(labels)), shares), min_samples, rng)


def label_counts(labels: np.ndarray, parts: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Counts each client's samples of each class.

    Args:
        labels: (n,) class numbers in [0, classes).
        parts: one array of indices into ``labels`` per client.
        classes: number of classes.

    Returns:
        (clients, classes) integer counts.

    Example:
        >>> label_counts(np.array([0, 0, 2]), [np.array([0, 2]), np.array([1])], classes=3)
        array([[1, 0, 1],
               [1, 0, 0]])
    """
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])


def _check_clients(clients: int, samples: int) -> None:
    if not 1 <= clients <= samples:
        raise ConfigError.of("partition.clients", clients, f"between 1 and {samples}, the number of training samples")


def _check_alpha(alpha: float) -> None:
    if not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError.of("partition.alpha", alpha, "a finite number above 0")


def _check_floor(min_samples: int, clients: int, samples: int) -> None:
    if not 1 <= min_samples <= samples // clients:
        raise ConfigError.of(
            "partition.min_samples",
            min_samples,
            f"between 1 and {samples // clients}, since {clients} clients share {samples} samples",
        )


def _dirichlet_shares(rng: np.random.Generator, concentration: np.ndarray, alpha: float) -> np.ndarray:
    """One draw from Dirichlet(alpha * concentration)."""
    # Past these bounds a draw is one-hot or uniform to the last bit, and the sampler under- or overflows.
    return rng.dirichlet(np.clip(alpha, 1e-12, 1e12) * concentration)


def _split_by_share(members: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    bounds = np.rint(np.cumsum(shares[:-1]) * len(members)).astype(int)
    return np.split(members, bounds)


def _shuffled_by_label(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All indices, sorted by label, in random order within a label."""
    order = rng.permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def _draw_counts(rng: np.random.Generator, size: int, mix: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Draws ``size`` samples by the class mix, never more of a class than are left; returns (classes,) counts."""
    counts = np.zeros_like(left)
    # Each pass either completes the draw or exhausts a class, so there are at most as many passes as classes.
    while (missing := size - int(counts.sum())) > 0:
        available = left - counts
        weights = np.where(available > 0, mix, 0.0)
        if weights.sum() == 0:
            weights = available.astype(float)
        counts += np.minimum(rng.multinomial(missing, weights / weights.sum()), available)
    return counts


def _lift_to_floor(parts: list[np.ndarray], floor: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Moves random samples from the largest client at the moment until every client has ``floor`` samples."""
    pools = [rng.permutation(part).tolist() for part in parts]
    sizes = np.array([len(pool) for pool in pools])
    for client in np.flatnonzero(sizes < floor):
        while sizes[client] < floor:
            donor = int(np.argmax(sizes))
            # The pools are shuffled, so the last sample is a random one.
            pools[client].append(pools[donor].pop())
            sizes[client] += 1
            sizes[donor] -= 1
    return [np.array(pool, dtype=np.int64) for pool in pools]
