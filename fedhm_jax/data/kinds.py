"""What a run can learn from."""

from typing import TypeVar

from fedhm_jax.data.array_data import ArrayData
from fedhm_jax.data.dataset import Dataset

AnyData = Dataset | ArrayData
"""Images with a class each, or samples of any kind."""

DataT = TypeVar("DataT", bound=AnyData)
