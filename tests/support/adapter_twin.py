"""The merges of adapters once more, slow and plain, in float64 NumPy: one kernel, one client, one segment at a time.

A kernel is a matrix M = v u, rows (kw, inputs), columns (kh, outputs).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Trained(NamedTuple):
    """One client's adapter of one kernel, of rank r, and its weight."""

    v: np.ndarray
    u: np.ndarray
    weight: float

    @property
    def rank(self) -> int:
        return self.v.shape[1]

    def product(self, alpha: float) -> np.ndarray:
        return alpha / self.rank * self.v @ self.u


class Server(NamedTuple):
    """What the server knows of one kernel: its difference from the base, as a matrix and, for HetLoRA, in factors."""

    difference: np.ndarray
    v: np.ndarray
    u: np.ndarray


Merge = Callable[[Server, Sequence[Trained], Sequence[int], float], Server]


def nothing(rows: int, columns: int, rank: int) -> Server:
    return Server(np.zeros((rows, columns)), np.zeros((rows, rank)), np.zeros((rank, columns)))


def mean(values: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    return np.asarray(sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights))


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left[:, :rank] @ np.diag(values[:rank]) @ right[:rank])


def sent(name: str, server: Server, rank: int) -> np.ndarray:
    """The product of what a client of a rank receives."""
    if name == "hetlora":
        return np.asarray(server.v[:, :rank] @ server.u[:rank])
    return np.zeros_like(server.difference) if name == "flora" else truncated(server.difference, rank)


def flexlora(server: Server, clients: Sequence[Trained], ranks: Sequence[int], alpha: float) -> Server:
    weights = [client.weight for client in clients]
    return server._replace(difference=mean([client.product(alpha) for client in clients], weights))


def flora(server: Server, clients: Sequence[Trained], ranks: Sequence[int], alpha: float) -> Server:
    """As published: the product of the stacks."""
    total = sum(client.weight for client in clients)
    v = np.hstack([client.weight / total * alpha / client.rank * client.v for client in clients])
    u = np.vstack([client.u for client in clients])
    return server._replace(difference=server.difference + v @ u)


def florist(
    server: Server, clients: Sequence[Trained], ranks: Sequence[int], alpha: float, energy: float = 0.9
) -> Server:
    """As published: each stack is decomposed by itself, and then the small matrix between the two."""
    total = sum(client.weight for client in clients)
    v = np.hstack([client.weight / total * alpha / client.rank * client.v for client in clients])
    u = np.vstack([client.u for client in clients])
    left_v, values_v, right_v = np.linalg.svd(v, full_matrices=False)
    left_u, values_u, right_u = np.linalg.svd(u, full_matrices=False)
    left, values, right = np.linalg.svd(np.diag(values_v) @ right_v @ left_u @ np.diag(values_u))
    kept = 0
    while (values[:kept] ** 2).sum() < energy * (values**2).sum():
        kept += 1
    return server._replace(difference=left_v @ left[:, :kept] @ np.diag(values[:kept]) @ right[:kept] @ right_u)


def hetlora(server: Server, clients: Sequence[Trained], ranks: Sequence[int], alpha: float) -> Server:
    weights, rank = [client.weight for client in clients], max(ranks)
    padded_v, padded_u = [], []
    for client in clients:
        v, u = np.zeros_like(server.v), np.zeros_like(server.u)
        v[:, : client.rank] = client.v
        u[: client.rank] = alpha / client.rank * client.u
        padded_v.append(v)
        padded_u.append(u)
    v, u = mean(padded_v, weights), mean(padded_u, weights)
    assert v.shape[1] == rank
    return Server(v @ u, v, u)


def raflora(server: Server, clients: Sequence[Trained], ranks: Sequence[int], alpha: float) -> Server:
    merged = np.zeros_like(server.difference)
    for start, stop in segments(ranks):
        holders = [client for client in clients if client.rank >= stop]
        if holders:
            products = [alpha / client.rank * client.v[:, start:stop] @ client.u[start:stop] for client in holders]
            merged += mean(products, [client.weight for client in holders])
    return server._replace(difference=truncated(merged, max(ranks)))


def fedhm_adapters(server: Server, clients: Sequence[Trained], ranks: Sequence[int], alpha: float) -> Server:
    merged = server.difference.copy()
    left, values, right = np.linalg.svd(server.difference, full_matrices=False)
    for start, stop in segments(ranks):
        holders = [client for client in clients if client.rank >= stop]
        received = left[:, start:stop] @ np.diag(values[start:stop]) @ right[start:stop]
        if holders:
            products = [alpha / client.rank * client.v[:, start:stop] @ client.u[start:stop] for client in holders]
            merged += mean([product - received for product in products], [client.weight for client in holders])
    return server._replace(difference=truncated(merged, max(ranks)))


def segments(ranks: Sequence[int]) -> list[tuple[int, int]]:
    ends = sorted(set(ranks))
    return list(zip([0, *ends], ends, strict=False))


MERGES: dict[str, Merge] = {
    "flexlora": flexlora,
    "raflora": raflora,
    "fedhm_adapters": fedhm_adapters,
    "hetlora": hetlora,
    "flora": flora,
    "florist": florist,
}
