"""Which config keys are meant by a name that is none: what it is called elsewhere, or what is spelled most like it."""

import difflib
from collections.abc import Mapping, Sequence

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "lr": ("local.learning_rate", "server.learning_rate"),
    "eta": ("local.learning_rate", "server.learning_rate"),
    "client_lr": ("local.learning_rate",),
    "local_lr": ("local.learning_rate",),
    "server_lr": ("server.learning_rate",),
    "lr_schedule": ("local.schedule",),
    "lr_scheduler": ("local.schedule",),
    "scheduler": ("local.schedule",),
    "lr_decay": ("local.decay_rate",),
    "gamma": ("local.decay_rate",),
    "bs": ("local.batch_size", "evaluation.batch_size"),
    "batch": ("local.batch_size", "evaluation.batch_size"),
    "local_bs": ("local.batch_size",),
    "opt": ("local.optimizer", "server.optimizer"),
    "local_epochs": ("local.epochs",),
    "num_epochs": ("local.epochs",),
    "local_steps": ("local.steps",),
    "mu": ("local.proximal",),
    "prox": ("local.proximal",),
    "wd": ("local.weight_decay",),
    "l2": ("local.weight_decay",),
    "grad_clip": ("local.clip",),
    "max_grad_norm": ("local.clip",),
    "dtype": ("local.compute",),
    "precision": ("local.compute",),
    "round": ("server.rounds",),
    "num_rounds": ("server.rounds",),
    "n_rounds": ("server.rounds",),
    "comm_rounds": ("server.rounds",),
    "communication_rounds": ("server.rounds",),
    "global_rounds": ("server.rounds",),
    "global_epochs": ("server.rounds",),
    "random_seed": ("server.seed",),
    "frac": ("server.participation",),
    "fraction": ("server.participation",),
    "fraction_fit": ("server.participation",),
    "sample_rate": ("server.participation",),
    "clients_per_round": ("server.cohort_size",),
    "cohort": ("server.cohort_size",),
    "gpus": ("server.devices",),
    "num_clients": ("partition.clients",),
    "n_clients": ("partition.clients",),
    "num_users": ("partition.clients",),
    "dirichlet": ("partition.alpha",),
    "dirichlet_alpha": ("partition.alpha",),
    "dataset": ("data.name",),
    "data_path": ("data.data_dir",),
    "seq_len": ("data.window",),
    "sequence_length": ("data.window",),
    "block_size": ("data.window",),
    "arch": ("model.name",),
    "architecture": ("model.name",),
    "algorithm": ("strategy.name",),
    "aggregator": ("strategy.name", "aggregation.merge"),
    "lora_rank": ("strategy.adapter_ranks",),
    "lora_alpha": ("strategy.alpha",),
    "ranks": ("tiers.rank_factors", "strategy.adapter_ranks"),
    "noise": ("privacy.noise_multiplier",),
    "sigma": ("privacy.noise_multiplier",),
    "eval_every": ("evaluation.every",),
    "save_every": ("checkpoint.every",),
    "out": ("output.folder",),
    "output_dir": ("output.folder",),
    "save_dir": ("output.folder",),
    "log_dir": ("output.folder",),
}
"""Names that others use for a config key, in lower case and with underscores; the likelier key first."""

_MOST = 3


def meant_by(path: str, names: Sequence[str]) -> list[str]:
    """The existing names that a wrong one may stand for, those of the same section alone where there are any.

    Args:
        path: what was given, such as ``"local.lr"``.
        names: all that there are, dotted.

    Returns:
        At most three, the likeliest first; none if nothing comes close.

    Example:
        >>> names = ["local", "local.learning_rate", "local.clip", "server.learning_rate", "server.rounds"]
        >>> meant_by("local.lr", names), meant_by("lr", names), meant_by("local.round", names), meant_by("x", names)
        (['local.learning_rate'], ['local.learning_rate', 'server.learning_rate'], ['server.rounds'], [])
    """
    section, _, last = path.lower().replace("-", "_").rpartition(".")
    parts = {name.rpartition(".")[2] for name in names}
    near = [last] if last in parts else difflib.get_close_matches(last, parts, n=_MOST)
    spelled = [name for part in near for name in names if name.rpartition(".")[2] == part]
    found = [name for name in SYNONYMS.get(last, ()) if name in names] or spelled
    here = [name for name in found if section and name.startswith(f"{section}.")]
    return (here or found)[:_MOST]
