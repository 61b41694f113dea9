"""The merge by rank segments once more, slow and plain, in float64 NumPy: one client, one segment after another.

Matrices are read as in `twin`: rows (o, kh), columns (i, kw), M = u v.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from support import twin
from support.twin import Params


class Trained(NamedTuple):
    """What one client trained, its rank plan, its weight, and the classes that it speaks for."""

    params: Params
    plan: Mapping[str, int]
    weight: float
    owned: np.ndarray


def merge(
    server: Params, plans: Sequence[Mapping[str, int]], clients: Sequence[Trained], classifier: str | None
) -> Params:
    """Every segment of every kernel moves by the mean change of the clients that hold it."""
    merged = {}
    for path, old in server.items():
        ends = sorted({plan[path] for plan in plans if path in plan})
        changes: dict[int | None, list[tuple[np.ndarray, Trained]]] = {}
        if not ends:
            changes[0] = [(client.params[path] - old, client) for client in clients]
        else:
            left, values, right = np.linalg.svd(twin.to_matrix(old), full_matrices=False)
            for client in clients:
                rest = None if path in client.plan else twin.to_matrix(client.params[path] - old)
                for start, stop in zip([0, *ends], ends, strict=False):
                    if rest is not None:
                        basis = right[start:stop]
                        change = twin.to_matrix(client.params[path] - old) @ basis.T @ basis
                        rest = rest - change
                    elif stop <= client.plan[path]:
                        u, v = client.params[f"{path}/u"], client.params[f"{path}/v"]
                        received = left[:, start:stop] @ np.diag(values[start:stop]) @ right[start:stop]
                        change = u[:, start:stop] @ v[start:stop] - received
                    else:
                        continue
                    changes.setdefault(start, []).append((twin.from_matrix(change, old.shape), client))
                if rest is not None:
                    changes.setdefault(None, []).append((twin.from_matrix(rest, old.shape), client))
        new = old.copy()
        for holders in changes.values():
            for last in range(old.shape[-1]):
                by_class = classifier is not None and path.startswith(f"{classifier}/")
                voters = [(change, client) for change, client in holders if not by_class or client.owned[last]]
                total = sum(client.weight for _, client in voters)
                for change, client in voters:
                    new[..., last] += client.weight / total * change[..., last]
        merged[path] = new
    return at_largest_rank(merged, plans)


def merge_factors(server: Params, clients: Sequence[Trained], classifier: str | None) -> Params:
    """Every number of the server's factors, and of all else, becomes the mean over the clients that hold it; then both
    sides of every rank are made equally long."""
    merged = {}
    for path, old in server.items():
        kernel, _, side = path.rpartition("/")
        is_factor = f"{kernel}/u" in server
        by_class = classifier is not None and path.startswith(f"{classifier}/") and not (is_factor and side == "v")
        new = old.copy()
        for place in np.ndindex(old.shape):
            rank = (place[1] if side == "u" else place[0]) if is_factor else -1
            label = place[0] if is_factor else place[-1]
            voters = [
                client
                for client in clients
                if (not is_factor or rank < client.plan[kernel]) and (not by_class or client.owned[label])
            ]
            if total := sum(client.weight for client in voters):
                new[place] = sum(client.weight * client.params[path][place] for client in voters) / total
        merged[path] = new
    for path in [path.removesuffix("/v") for path in merged if path.endswith("/v")]:
        for rank in range(len(merged[f"{path}/v"])):
            u, v = merged[f"{path}/u"][:, rank], merged[f"{path}/v"][rank]
            length = np.sqrt(np.linalg.norm(u) * np.linalg.norm(v))
            u *= length / np.linalg.norm(u)
            v *= length / np.linalg.norm(v)
    return merged


def at_largest_rank(server: Params, plans: Sequence[Mapping[str, int]]) -> Params:
    """What every tier factorizes, truncated to the largest rank; all else as it is."""
    cut = dict(server)
    for path, whole in server.items():
        if all(path in plan for plan in plans):
            rank = max(plan[path] for plan in plans)
            left, values, right = np.linalg.svd(twin.to_matrix(whole), full_matrices=False)
            cut[path] = twin.from_matrix(left[:, :rank] @ np.diag(values[:rank]) @ right[:rank], whole.shape)
    return cut


def truncation(params: Params, server: Params, plan: Mapping[str, int]) -> Params:
    """A weaker tier's model inside of a client's: leading factors, or M R^T R for a whole kernel."""
    cut = {path: value for path, value in params.items() if path.removesuffix("/u").removesuffix("/v") not in plan}
    for path, rank in plan.items():
        if path in params:
            right = np.linalg.svd(twin.to_matrix(server[path]), full_matrices=False)[2][:rank]
            cut |= {f"{path}/u": twin.to_matrix(params[path]) @ right.T, f"{path}/v": right}
        else:
            cut |= {f"{path}/u": params[f"{path}/u"][:, :rank], f"{path}/v": params[f"{path}/v"][:rank]}
    return cut


def gradient_back(found: Params, params: Params, inside: Params) -> Params:
    """A truncation's gradient as one of the client's own parameters, by the chain rule."""
    back = {path: np.zeros_like(value) for path, value in params.items()}
    for path, value in found.items():
        kernel, _, side = path.rpartition("/")
        if path in params and value.shape == params[path].shape:
            back[path] = value
        elif side == "u" and kernel in params:
            back[kernel] = twin.from_matrix(value @ inside[f"{kernel}/v"], params[kernel].shape)
        elif side == "u":
            back[path][:, : value.shape[1]] = value
        elif kernel not in params:
            back[path][: len(value)] = value
    return back
