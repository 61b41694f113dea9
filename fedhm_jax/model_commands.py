"""``fedhm predict RUN FILES...`` and ``fedhm export RUN --to FILE``: what becomes of a finished run's models."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedhm_jax.errors import ConfigError
from fedhm_jax.files import check_new_file

if TYPE_CHECKING:
    from fedhm_jax.results import Model


def predict(arguments: Sequence[str]) -> int:
    """Prints, a line each, the class of every image and its probability, or how well every text is foreseen.

    Args:
        arguments: those after ``fedhm predict``.

    Returns:
        The exit code.

    Raises:
        ConfigError: no finished run, no such model, a model of neither images nor text, or a file that is none.
    """
    parser = argparse.ArgumentParser(
        prog="fedhm predict",
        description="Classifies image files with a model of a finished run; with a model of text, measures text files "
        "or goes on with them. Images of another size are resized, and colours are converted, to what the model was "
        "trained on; it cannot know how light and dark were meant.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, also of a run of a study")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILES", help="image or text files")
    _add_model(parser)
    parser.add_argument(
        "--continue", type=int, dest="tokens", metavar="N", help="of text: print N tokens that go on with each file"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what goes on (default: 0)")
    asked = parser.parse_args(arguments)

    if asked.tokens is not None and asked.tokens < 1:
        raise ConfigError.of("--continue", asked.tokens, "a number of tokens, at least 1")

    from fedhm_jax.run import is_of_text, load_run

    model = load_run(asked.run).tier(asked.model)
    if is_of_text(model):
        lines = _read_on(model, asked.files, asked.tokens, asked.seed)
    elif asked.tokens is not None:
        raise ConfigError.of("--continue", asked.tokens, "unset for a model that is not of text")
    else:
        lines = _classified(model, asked.files)
    for line in lines:
        print(line)
    return 0


def _classified(model: "Model", paths: Sequence[Path]) -> Iterator[str]:
    import numpy as np

    from fedhm_jax.data import read_image

    logits = model.predict(np.stack([read_image(path, model.image_shape) for path in paths]))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    for path, share in zip(paths, shares, strict=True):
        best = int(share.argmax())
        name = best if model.class_names is None else model.class_names[best]
        yield f"{path}: {name} ({share[best]:.4f})"


def _read_on(model: "Model", paths: Sequence[Path], tokens: int | None, seed: int) -> Iterator[str]:
    from fedhm_jax.run import continue_text, score_of, score_text

    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            if tokens is None:
                yield f"{path}: {score_text(model, text):.4f} {score_of(model).heading}"
            else:
                yield text + continue_text(model, text, tokens, seed=seed)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError.of("text", str(path), f"a file of UTF-8 that can be read ({error})") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def export(arguments: Sequence[str]) -> int:
    """Writes a model of a finished run to a file of its own.

    Args:
        arguments: those after ``fedhm export``.

    Returns:
        The exit code.

    Raises:
        ConfigError: no finished run, no such model, or the file exists already or is no .safetensors.
        WriteError: the file could not be written.
    """
    parser = argparse.ArgumentParser(
        prog="fedhm export",
        description="Writes a model of a finished run as safetensors: parameters, norm statistics, and in the metadata "
        "normalisation, classes, ranks and config. docs/trained_models.md says how to compute with it.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, also of a run of a study")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", required=True, help="a .safetensors file that does not exist yet"
    )
    _add_model(parser)
    asked = parser.parse_args(arguments)

    check_new_file(asked.to, ".safetensors")

    from fedhm_jax.run import stored_model, write_model_file

    write_model_file(asked.to, stored_model(asked.run, asked.model))
    print(f"Written to {asked.to}", file=sys.stderr)
    return 0


def _add_model(parser: argparse.ArgumentParser) -> None:
    text = "the global model, or a tier's, such as f4 (default: global)"
    parser.add_argument("--model", default="global", metavar="NAME", help=text)
