"""Data sets and how their samples are dealt out to clients."""

from fedhm_jax.data.arrays import dataset_from_arrays
from fedhm_jax.data.dataset import Dataset
from fedhm_jax.data.partition import label_counts, partition
from fedhm_jax.data.sources import hold_out, load_dataset

__all__ = ["Dataset", "dataset_from_arrays", "hold_out", "label_counts", "load_dataset", "partition"]
