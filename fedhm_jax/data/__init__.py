"""Where samples come from, how they are dealt out to clients, and how one client's are drawn on the device."""

from fedhm_jax.data.array_data import ArrayData, data_from_arrays
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
from fedhm_jax.data.images.arrays import as_images, dataset_from_arrays
from fedhm_jax.data.images.augmentation import crop_flip
from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.data.images.file import read_image
from fedhm_jax.data.images.sources import load_dataset
from fedhm_jax.data.kinds import AnyData
from fedhm_jax.data.own_clients import given, natural
from fedhm_jax.data.partition import label_counts, partition, partition_unlabelled
from fedhm_jax.data.samples import Examples, Images, Windows, images_on_host, normalise, place_images
from fedhm_jax.data.shards import assign_holders, choose_samples, client_shards
from fedhm_jax.data.subsets import hold_out, without_held_out
from fedhm_jax.data.text.documents import text_from_strings, text_from_tokens
from fedhm_jax.data.text.sources import is_text, load_text
from fedhm_jax.data.text.text import Text, check_text
from fedhm_jax.data.text.vocabulary import HasVocabulary, TokenUnit, decode, encode, unit_of

__all__ = [
    "AnyData",
    "ArrayData",
    "Client",
    "ClientData",
    "Dataset",
    "Examples",
    "HasVocabulary",
    "Images",
    "Text",
    "TokenUnit",
    "Windows",
    "as_images",
    "assign_holders",
    "check_text",
    "choose_samples",
    "client_by_id",
    "client_shards",
    "crop_flip",
    "data_from_arrays",
    "dataset_from_arrays",
    "deal_out",
    "decode",
    "draw_rows",
    "encode",
    "epoch_order",
    "given",
    "hold_out",
    "images_on_host",
    "is_text",
    "label_counts",
    "load_dataset",
    "load_text",
    "natural",
    "normalise",
    "partition",
    "partition_unlabelled",
    "place_clients",
    "place_images",
    "read_image",
    "rows_in_order",
    "text_from_strings",
    "text_from_tokens",
    "unit_of",
    "without_held_out",
]
