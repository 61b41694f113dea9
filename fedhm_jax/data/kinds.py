"""What a run can learn from."""

from typing import TypeVar

from fedhm_jax.data.array_data import ArrayData
from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.data.text.text import Text

AnyData = Dataset | Text | ArrayData
"""Images with a class each, text, or samples of any kind."""

DataT = TypeVar("DataT", bound=AnyData)
