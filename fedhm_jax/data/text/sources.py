"""Loads a text by the name of its source."""

import os
from pathlib import Path

from fedhm_jax.data.subsets import subset
from fedhm_jax.data.text.documents import text_from_strings
from fedhm_jax.data.text.files import Documents, read_json_lines, read_text_files
from fedhm_jax.data.text.hub_cache import find_cached_set
from fedhm_jax.data.text.tables import read_tables
from fedhm_jax.data.text.text import Text
from fedhm_jax.data.text.tfds import read_tfds_text
from fedhm_jax.errors import ConfigError


def is_text(name: str) -> bool:
    """Whether ``data.name`` stands for text.

    Args:
        name: the name.

    Returns:
        The answer; nothing is looked up.

    Example:
        >>> [is_text(name) for name in ("jsonl", "huggingface:Salesforce/wikitext", "cifar10", "jsonl:lines")]
        [True, True, False, False]
    """
    source, colon, _ = name.partition(":")
    return source in (("huggingface", "tfds_text") if colon else ("text", "jsonl", "huggingface"))


def load_text(
    name: str = "text",
    *,
    data_dir: Path | str | None = None,
    train_split: str = "train",
    window: int = 64,
    test_share: float = 0.1,
    tokenizer: str = "characters",
    client_pattern: str | None = None,
    text_field: str = "text",
    client_field: str | None = None,
    train_samples: int | None = None,
    test_samples: int | None = None,
) -> Text:
    """Loads a text from files.

    Args:
        name: "text" (a text file, or a folder of ``.txt`` files), "jsonl" (a file of JSON lines), "huggingface" (a
            data set that `save_to_disk` of the library datasets wrote, or Parquet files),
            "huggingface:OWNER/NAME" or "huggingface:OWNER/NAME/CONFIG" (a set in the cache of the library datasets),
            or "tfds_text:NAME" (a prepared set of TFDS).
        data_dir: the file or folder; of a set with a name the cache or the folder of the prepared sets, the library's
            own default if None.
        train_split: split to read (huggingface, tfds_text); the test is the ends of its texts.
        window: tokens that a sample predicts.
        test_share: share of the end of every client's text, or of every document without clients, that is held out for
            the test.
        tokenizer: "characters", "bytes" or the path of a Hugging Face ``tokenizer.json``.
        client_pattern: regular expression (text); a line that it matches begins a text of the client that its first
            group, or without a group the match, names. Unset, each file of a folder is a client.
        text_field: key of a line's text (jsonl), or column or feature of the texts (huggingface, tfds_text).
        client_field: key of a line's client (jsonl), or column or feature of the clients (huggingface, tfds_text); no
            clients if None.
        train_samples: size of the random subset of windows to use, drawn with a fixed seed; all if None.
        test_samples: likewise of the test windows.

    Returns:
        The text, named by the file or folder.

    Raises:
        ConfigError: a file is missing or unusable, or fewer windows exist than asked for.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "play.txt"
        ...     _ = file.write_text("ANN:\\nTo be.\\n\\nBOB:\\nOr not to be.\\n")
        ...     load_text(data_dir=file, window=2, test_share=0.3, client_pattern="^([A-Z]+):$")
        Text('play': 5 training and 1 test windows of 2 tokens, 10 in the vocabulary, 2 clients)
    """
    if not is_text(name):
        allowed = "'text', 'jsonl', 'huggingface', 'huggingface:OWNER/NAME' or 'tfds_text:NAME' for a text"
        raise ConfigError.of("data.name", name, allowed)
    source, colon, title = name.partition(":")
    path = None if data_dir is None else Path(data_dir).expanduser()
    if source == "tfds_text":
        documents = read_tfds_text(title, path, train_split, text_field, client_field)
    elif colon:
        documents = read_tables(find_cached_set(title, path), train_split, text_field, client_field)
    elif path is None:
        raise ConfigError(f"data.data_dir is unset, but must be where the text is when data.name is {name!r}")
    else:
        documents = _read_place(name, path, train_split, client_pattern, text_field, client_field)
        title = path.resolve().name if os.path.isdir(path) else path.stem
    if not any(documents.values() if isinstance(documents, dict) else documents):
        field = ("data.name", name) if path is None else ("data.data_dir", str(path))
        raise ConfigError.of(*field, "where text is, and there is none in it")
    text = text_from_strings(documents, window=window, test_share=test_share, tokenizer=tokenizer, name=title)
    return subset(text, train_samples, test_samples)


def _read_place(
    name: str, path: Path, split: str, client_pattern: str | None, text_field: str, client_field: str | None
) -> Documents:
    if name == "text":
        return read_text_files(path, client_pattern)
    if name == "jsonl":
        return read_json_lines(path, text_field, client_field)
    return read_tables(path, split, text_field, client_field)
