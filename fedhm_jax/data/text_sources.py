"""Loads a text by the name of its source."""

import os
from pathlib import Path

from fedhm_jax.data.documents import text_from_strings
from fedhm_jax.data.subsets import subset
from fedhm_jax.data.text import Text
from fedhm_jax.data.text_files import read_json_lines, read_text_files
from fedhm_jax.data.text_tables import read_tables
from fedhm_jax.errors import ConfigError

TEXT_SOURCES = ("text", "jsonl", "huggingface")
"""Names that stand for text."""


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
        name: "text" (a text file, or a folder of ``.txt`` files), "jsonl" (a file of JSON lines) or "huggingface" (a
            data set that `save_to_disk` of the library datasets wrote, or Parquet files).
        data_dir: the file or folder.
        train_split: split to read (huggingface); the test is the ends of its texts.
        window: tokens that a sample predicts.
        test_share: share of the end of every client's text, or of every document without clients, that is held out for
            the test.
        tokenizer: "characters", "bytes" or the path of a Hugging Face ``tokenizer.json``.
        client_pattern: regular expression (text); a line that it matches begins a text of the client that its first
            group, or without a group the match, names. Unset, each file of a folder is a client.
        text_field: key of a line's text (jsonl), or column of the texts (huggingface).
        client_field: key of a line's client (jsonl), or column of the clients (huggingface); no clients if None.
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
    if name not in TEXT_SOURCES:
        raise ConfigError.of("data.name", name, "'text', 'jsonl' or 'huggingface' for a text")
    if data_dir is None:
        raise ConfigError(f"data.data_dir is unset, but must be where the text is when data.name is {name!r}")
    path = Path(data_dir).expanduser()
    if name == "text":
        documents = read_text_files(path, client_pattern)
    elif name == "jsonl":
        documents = read_json_lines(path, text_field, client_field)
    else:
        documents = read_tables(path, train_split, text_field, client_field)
    if not any(documents.values() if isinstance(documents, dict) else documents):
        raise ConfigError.of("data.data_dir", str(path), "where text is, and there is none in it")
    title = path.resolve().name if os.path.isdir(path) else path.stem
    text = text_from_strings(documents, window=window, test_share=test_share, tokenizer=tokenizer, name=title)
    return subset(text, train_samples, test_samples)
