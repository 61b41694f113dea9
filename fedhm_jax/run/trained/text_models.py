"""What a trained model of text is good for: it measures a text, and goes on with one."""

import math

import numpy as np

from fedhm_jax.data import decode, encode, unit_of
from fedhm_jax.errors import ConfigError
from fedhm_jax.results import Model
from fedhm_jax.run.trained.model_inputs import TokenInputs
from fedhm_jax.run.trained.trained_model import TrainedModel
from fedhm_jax.score import Score
from fedhm_jax.tasks import next_token


def is_of_text(model: Model) -> bool:
    """Whether a model is one of text.

    Args:
        model: such as ``result.tier("f4")``.

    Returns:
        The answer.
    """
    return isinstance(model, TrainedModel) and isinstance(model.inputs, TokenInputs)


def score_of(model: Model) -> Score:
    """What a model of text is judged by: bits per character or byte, or the loss of a tokenizer's pieces.

    Args:
        model: of text, such as ``result.tier("f4")``.

    Returns:
        The score; less is better.

    Raises:
        ConfigError: a model of something else.
    """
    inputs, _ = _of_text(model)
    return next_token(inputs.window, unit_of(inputs.vocabulary)).score


def score_text(model: Model, string: str) -> float:
    """How well a model foresees a text.

        loss = -(1 / n) sum_t log p(x_t+1 | x_s ... x_t),  bits = loss / log 2,  s the start of x_t's window

    Args:
        model: of text, such as ``result.tier("f4")``.
        string: of two tokens at least. It is cut into windows as the run's test was; the last one may be shorter.

    Returns:
        Bits per character or byte, or of a tokenizer's pieces the loss in nats a token; less is better.

    Raises:
        ConfigError: a model of something else, a text too short, or a character that the model was not trained on.
    """
    inputs, tokenizer = _of_text(model)
    tokens = _tokens(inputs, string, tokenizer, 2)
    windows = -(-(len(tokens) - 1) // inputs.window)
    padded = np.zeros(windows * inputs.window, np.int32)
    padded[: len(tokens) - 1] = tokens[:-1]
    logits = model.predict(padded.reshape(windows, inputs.window))
    log_shares = _log_shares(logits.reshape(-1, logits.shape[-1])[: len(tokens) - 1])
    loss = -float(log_shares[np.arange(len(tokens) - 1), tokens[1:]].mean())
    return loss / math.log(2) if score_of(model).metric == "bits" else loss


def continue_text(model: Model, string: str, tokens: int, *, seed: int = 0, temperature: float = 1.0) -> str:
    """Goes on with a text, each token drawn from what the model expects after the window before it.

        p(x) proportional to exp(logits(x) / temperature)

    Args:
        model: of text, such as ``result.tier("f4")``.
        string: what to go on with, one token at least.
        tokens: how many are added.
        seed: of the draws.
        temperature: below 1 the likely tokens are drawn more often than they are expected.

    Returns:
        The added text.

    Raises:
        ConfigError: a model of something else, an empty text, a character that the model was not trained on, or a
            temperature that is not positive.

    Example:
        >>> from fedhm_jax import ModelConfig, PartitionConfig, SimulationConfig, TiersConfig
        >>> from fedhm_jax import simulate, text_from_strings
        >>> text = text_from_strings({"ann": "ab" * 200, "bob": "ba" * 200}, window=8)
        >>> decoder = ModelConfig("decoder", width=8, depth=1, heads=2)
        >>> config = SimulationConfig(partition=PartitionConfig("natural"), model=decoder, tiers=TiersConfig((1.0,)))
        >>> model = simulate(config, data=text).tier("global")
        >>> len(continue_text(model, "aba", 5)), score_text(model, "abababab") < 1.0
        (5, True)
    """
    if not temperature > 0:
        raise ConfigError.of("temperature", temperature, "above 0")
    inputs, tokenizer = _of_text(model)
    given, found = _tokens(inputs, string, tokenizer, 1).tolist(), list[int]()
    draws = np.random.default_rng(seed)
    for _ in range(tokens):
        before = (given + found)[-inputs.window :]
        # of one length, so that one program serves all; what follows a place does not reach it
        row = np.zeros((1, inputs.window), np.int32)
        row[0, : len(before)] = before
        shares = np.exp(_log_shares(model.predict(row)[0, len(before) - 1] / temperature))
        found.append(int(draws.choice(len(shares), p=shares / shares.sum())))
    return decode(inputs, found)


def _of_text(model: Model) -> tuple[TokenInputs, str]:
    """What it is given, and what made tokens of its text."""
    if not isinstance(model, TrainedModel) or not isinstance(model.inputs, TokenInputs):
        raise ConfigError("model is not of text, but must be")
    return model.inputs, model.config.data.tokenizer


def _tokens(inputs: TokenInputs, string: str, tokenizer: str, fewest: int) -> np.ndarray:
    tokens = encode(inputs, string, tokenizer)
    if len(tokens) < fewest:
        raise ConfigError(f"the text has {len(tokens)} tokens, but must have at least {fewest}")
    return tokens


def _log_shares(logits: np.ndarray) -> np.ndarray:
    """In float64, for a model's float32."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
