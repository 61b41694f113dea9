"""Samples of any kind: inputs and targets as arrays."""

from typing import Any, NamedTuple

import numpy as np

from fedhm_jax.data.images.arrays import as_array, as_clients
from fedhm_jax.errors import ConfigError


class ArrayData(NamedTuple):
    """Training and test samples of a task of one's own, in host memory; built by `data_from_arrays`.

    Attributes:
        train_inputs: (n, ...).
        train_targets: (n, ...).
        test_inputs: (m, ...), each of the same shape as in training.
        test_targets: (m, ...), likewise.
        name: shown in reports.
        train_clients: (n,) id of the client that each training sample is of; None if the data have no clients of
            their own.
    """

    train_inputs: np.ndarray
    train_targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    name: str
    train_clients: np.ndarray | None = None

    def __repr__(self) -> str:
        numbers = f"{len(self.train_targets)} training and {len(self.test_targets)} test samples"
        own = "" if self.train_clients is None else f", {len(np.unique(self.train_clients))} clients"
        return f"ArrayData({self.name!r}: {numbers}, inputs of shape {self.train_inputs.shape[1:]}{own})"

    @property
    def train_size(self) -> int:
        """Number of training samples."""
        return len(self.train_targets)

    @property
    def test_size(self) -> int:
        """Number of test samples."""
        return len(self.test_targets)

    def with_train(self, rows: np.ndarray) -> "ArrayData":
        """The data with these training samples only."""
        return self._replace(
            train_inputs=self.train_inputs[rows],
            train_targets=self.train_targets[rows],
            train_clients=None if self.train_clients is None else self.train_clients[rows],
        )

    def with_test(self, rows: np.ndarray) -> "ArrayData":
        """The data with these test samples only."""
        return self._replace(test_inputs=self.test_inputs[rows], test_targets=self.test_targets[rows])

    def tested_on_train(self, rows: np.ndarray) -> "ArrayData":
        """The data with these training samples in place of the test samples."""
        return self._replace(test_inputs=self.train_inputs[rows], test_targets=self.train_targets[rows])


def data_from_arrays(
    train_inputs: Any,
    train_targets: Any,
    test_inputs: Any,
    test_targets: Any,
    *,
    name: str = "arrays",
    clients: Any = None,
) -> ArrayData:
    """Checks arrays and brings them into the form that a run of a task of one's own takes.

    Args:
        train_inputs: (n, ...) numbers; floats become float32, whole numbers int32.
        train_targets: (n, ...) numbers.
        test_inputs: (m, ...), each of the same shape and type as in training.
        test_targets: (m, ...), likewise.
        name: shown in reports.
        clients: (n,) id of the client that each training sample is of, integers or strings.

    Returns:
        The data.

    Raises:
        ConfigError: an array has the wrong shape, type or values; the message names it, as in "data.train_inputs".

    Example:
        >>> x = np.linspace(0, 1, 6).reshape(6, 1)
        >>> data_from_arrays(x[:4], 2 * x[:4], x[4:], 2 * x[4:], name="line")
        ArrayData('line': 4 training and 2 test samples, inputs of shape (1,))
    """
    arrays = [
        _as_numbers(values, field)
        for field, values in (
            ("data.train_inputs", train_inputs),
            ("data.train_targets", train_targets),
            ("data.test_inputs", test_inputs),
            ("data.test_targets", test_targets),
        )
    ]
    for part, inputs, targets in (("train", *arrays[:2]), ("test", *arrays[2:])):
        if len(inputs) != len(targets):
            raise ConfigError(
                f"data.{part}_targets has {len(targets)} rows, but must have {len(inputs)}, one for each of "
                f"data.{part}_inputs"
            )
    for what, trained, tested in (("inputs", arrays[0], arrays[2]), ("targets", arrays[1], arrays[3])):
        if (trained.shape[1:], trained.dtype) != (tested.shape[1:], tested.dtype):
            raise ConfigError(
                f"data.test_{what} has rows of shape {tested.shape[1:]} and type {tested.dtype}, but must have rows "
                f"like data.train_{what}, of shape {trained.shape[1:]} and type {trained.dtype}"
            )
    owners = None if clients is None else as_clients(clients, len(arrays[0]), "data.train_clients")
    inputs, answers, test_inputs, test_answers = arrays
    return ArrayData(inputs, answers, test_inputs, test_answers, name, owners)


def _as_numbers(values: Any, field: str) -> np.ndarray:
    array = as_array(values, field)
    if array.ndim == 0 or array.size == 0:
        raise ConfigError(f"{field} has shape {array.shape}, but must hold at least one sample")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ConfigError(f"{field} holds NaN or infinite values, but must hold finite ones")
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{field} is of type {array.dtype}, but must be of numbers")
    if array.min() < -(2**31) or array.max() >= 2**31:
        raise ConfigError(f"{field} holds {array.min()} to {array.max()}, but must hold whole numbers of 32 bits")
    return array.astype(np.int32)
