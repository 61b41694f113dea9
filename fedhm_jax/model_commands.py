"""``fedhm predict RUN IMAGES...`` and ``fedhm export RUN --to FILE``: what becomes of a finished run's models."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedhm_jax.files import check_new_file


def predict(arguments: Sequence[str]) -> int:
    """Prints the class of each image and its probability, a line each.

    Args:
        arguments: those after ``fedhm predict``.

    Returns:
        The exit code.

    Raises:
        ConfigError: no finished run, no such model, or a file that is no image.
    """
    parser = argparse.ArgumentParser(
        prog="fedhm predict",
        description="Classifies image files with a model of a finished run. Files of another size are resized, and "
        "colours are converted, to what the model was trained on; it cannot know how light and dark were meant.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, also of a run of a study")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help="image files")
    _add_model(parser)
    asked = parser.parse_args(arguments)

    import numpy as np

    from fedhm_jax.data import read_image
    from fedhm_jax.run import load_run

    model = load_run(asked.run).tier(asked.model)
    logits = model.predict(np.stack([read_image(path, model.image_shape) for path in asked.images]))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    for path, share in zip(asked.images, shares, strict=True):
        best = int(share.argmax())
        name = best if model.class_names is None else model.class_names[best]
        print(f"{path}: {name} ({share[best]:.4f})")
    return 0


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
