"""The server optimizers of Reddi et al. (2003.00295), algorithm 2, number by number in NumPy float64."""

from collections.abc import Sequence

import numpy as np

Params = dict[str, np.ndarray]


class Server:
    """A model and its moments; as in the paper, Delta is what the round changed, and it is added."""

    def __init__(
        self, name: str, params: Params, *, rate: float, momentum: float, second_moment: float, epsilon: float
    ) -> None:
        self.name, self.rate, self.beta_1, self.beta_2, self.tau = name, rate, momentum, second_moment, epsilon
        self.params = {path: leaf.astype(np.float64) for path, leaf in params.items()}
        self.m = {path: np.zeros_like(leaf) for path, leaf in self.params.items()}
        self.v = {path: np.full_like(leaf, epsilon**2) for path, leaf in self.params.items()}

    def step(self, merged: Params) -> Params:
        """Moves the model by one round whose plain merge would be ``merged``."""
        for path, x in self.params.items():
            for place in np.ndindex(x.shape):
                delta = merged[path][place] - x[place]
                x[place] += self._step(delta, self.m[path], self.v[path], place)
        return self.params

    def _step(self, delta: float, m: np.ndarray, v: np.ndarray, place: Sequence[int]) -> float:
        if self.name == "sgd":
            return self.rate * delta
        if self.name == "momentum":
            m[place] = self.beta_1 * m[place] + delta
            return self.rate * m[place]
        m[place] = self.beta_1 * m[place] + (1 - self.beta_1) * delta
        if self.name == "adagrad":
            v[place] += delta**2
        elif self.name == "yogi":
            v[place] -= (1 - self.beta_2) * delta**2 * np.sign(v[place] - delta**2)
        elif self.name == "adam":
            v[place] = self.beta_2 * v[place] + (1 - self.beta_2) * delta**2
        return self.rate * m[place] / (np.sqrt(v[place]) + self.tau)
