"""Where samples come from, how they are dealt out to clients, and how one client's are drawn on the device."""

from fedhm_jax.data.array_data import ArrayData, data_from_arrays
from fedhm_jax.data.arrays import as_images, dataset_from_arrays
from fedhm_jax.data.augmentation import crop_flip
from fedhm_jax.data.client_data import (
    Client,
    ClientData,
    client_by_id,
    deal_out,
    draw_rows,
    epoch_order,
    place_clients,
    rows_in_order,
)
from fedhm_jax.data.dataset import Dataset
from fedhm_jax.data.image_file import read_image
from fedhm_jax.data.kinds import AnyData
from fedhm_jax.data.own_clients import given, natural
from fedhm_jax.data.partition import label_counts, partition
from fedhm_jax.data.samples import Examples, Images, Windows, normalise, place_images
from fedhm_jax.data.sources import hold_out, load_dataset, without_held_out

__all__ = [
    "AnyData",
    "ArrayData",
    "Client",
    "ClientData",
    "Dataset",
    "Examples",
    "Images",
    "Windows",
    "as_images",
    "client_by_id",
    "crop_flip",
    "data_from_arrays",
    "dataset_from_arrays",
    "deal_out",
    "draw_rows",
    "epoch_order",
    "given",
    "hold_out",
    "label_counts",
    "load_dataset",
    "natural",
    "normalise",
    "partition",
    "place_clients",
    "place_images",
    "read_image",
    "rows_in_order",
    "without_held_out",
]
