"""What a private run guarantees, in words."""

from typing import Any

from fedhm_jax.results import SimulationResult

ASSUMPTIONS = (
    "the guarantee covers whole clients: two runs are neighbours if they differ in all the samples of one client",
    "it covers the models after every round, not training losses, counts of rejected updates, test metrics or a stop",
    "the server is honest: it samples, clips and adds noise as written, and sees every update itself",
    "who is sampled, and the noise, are secret; in this simulation both follow from server.seed",
    "cohorts of fixed size are drawn uniformly without replacement; failures of clients do not depend on their data",
    "public are the number of clients and their tiers, the first model, and mean and deviation of the images' channels",
    "hyperparameters were not chosen by looking at the clients' data",
    "numbers are real numbers: rounding to floating point is not accounted for",
)
"""What has to be true for the printed epsilon to mean something."""


def privacy_summary(result: SimulationResult) -> dict[str, Any] | None:
    """The guarantee of a finished run.

    Args:
        result: the run.

    Returns:
        ``epsilon`` and ``delta`` of all rounds together, what they follow from, and the assumptions, ready for JSON;
        None for a run without privacy.
    """
    last = result.history[-1]
    if "epsilon" not in last:
        return None
    return {
        "epsilon": last["epsilon"],
        "delta": last["delta"],
        "noise_multiplier": result.config.privacy.noise_multiplier,
        "clip": result.config.aggregation.clip,
        "adjacency": "replace one client",
        "accountant": "Renyi divergences, sampling without replacement (dp-accounting)",
        "assumptions": list(ASSUMPTIONS),
    }


def privacy_text(result: SimulationResult) -> str | None:
    """The guarantee of a finished run, for people.

    Args:
        result: the run.

    Returns:
        A few lines, or None for a run without privacy.
    """
    summary = privacy_summary(result)
    if summary is None:
        return None
    epsilon = "inf" if summary["epsilon"] is None else f"{summary['epsilon']:.3g}"
    lines = [
        f"Differential privacy after {len(result.history)} rounds: epsilon {epsilon} at delta {summary['delta']:.3g}, "
        f"for noise of {summary['noise_multiplier']:g} x the clipping length {summary['clip']:g}. This assumes that",
        *(f"- {assumption}" for assumption in ASSUMPTIONS),
    ]
    return "\n".join(lines)
