"""Text sets of TensorFlow Datasets (TFDS)."""

from pathlib import Path
from typing import Any

from fedhm_jax.data.text.files import Documents, joined_by_client
from fedhm_jax.data.tfds_builder import (
    check_client_feature,
    check_prepared,
    open_builder,
    open_source,
    quietly,
    read_samples,
)
from fedhm_jax.errors import ConfigError

_PREFIX = "tfds_text:"


def read_tfds_text(
    name: str, data_dir: Path | None, split: str, text_field: str = "text", client_field: str | None = None
) -> Documents:
    """Reads a split of a prepared TFDS set that holds text.

    Args:
        name: TFDS name, such as "tiny_shakespeare" or "imdb_reviews/plain_text:1.0.0".
        data_dir: folder of the prepared sets; TFDS's own default if None.
        split: split or slice of one, such as "train" or "train[:10%]".
        text_field: feature of the texts.
        client_field: feature with the id of a text's client, an integer or a string; no clients if None.

    Returns:
        Each client's texts, joined by line breaks, or the document of each sample.

    Raises:
        ConfigError: the set is unknown or not prepared, there is no such split or feature, or a file is damaged.

    Example:
        >>> read_tfds_text("tiny_shakespear", None, "train")
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: data.name is 'tfds_text:tiny_shakespear', but must be 'tfds_text:' and the name \
of a TFDS set; did you mean 'tfds_text:tiny_shakespeare'?
    """
    root = None if data_dir is None else data_dir.expanduser()
    with quietly():
        builder = open_builder(name, root, f"{_PREFIX!r} and the name of a TFDS set", _PREFIX)
        _check_text_feature(builder.info, text_field)
        check_client_feature(builder.info, "data.client_field", client_field, (text_field,))
        check_prepared(name, builder, _PREFIX)
        source = open_source(builder, split, "data.train_split")
    samples = list(read_samples(source, name, split))
    texts = [_text(sample[text_field]) for sample in samples]
    if client_field is None:
        return texts
    return joined_by_client(texts, [_client(sample[client_field]) for sample in samples])


def _check_text_feature(info: Any, name: str) -> None:
    import tensorflow_datasets as tfds

    texts = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Text)]
    if name not in texts:
        found = ", ".join(map(repr, sorted(texts))) or "none"
        raise ConfigError.of("data.text_field", name, f"a feature of {info.name} that is a text (found: {found})")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _client(value: Any) -> str | int:
    return _text(value) if isinstance(value, bytes | str) else int(value)
