"""One virtual environment a peer, at pinned versions."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from fedhm_jax.errors import ConfigError

ENVIRONMENTS = Path("build/peers")
_TORCH = ("torch==2.13.0", "numpy==2.4.6")
_HAIKU = ("dm-haiku==0.0.10", "optax==0.1.7", "chex<0.1.83")
PINS: dict[str, tuple[tuple[str, ...], ...]] = {
    "plain_torch": (_TORCH,),
    "pfl_peer": (_TORCH, ("pfl==0.6.0",)),
    "flower_peer": (_TORCH, ("flwr[simulation]==1.41.0",)),
    # BlazeFL asks for Python 3.12, but runs on 3.11.
    "blazefl_peer": ((*_TORCH, "tqdm"), ("--no-deps", "--ignore-requires-python", "blazefl==2.0.3")),
    "fedjax_peer": (("fedjax==0.0.17", "jax==0.4.13", "jaxlib==0.4.13", "numpy<2", "scipy<1.13", *_HAIKU),),
}
"""Arguments of each ``pip install`` of a peer, one call after another."""
PEERS = {
    "torch": "plain_torch",
    "pfl": "pfl_peer",
    "flower": "flower_peer",
    "blazefl": "blazefl_peer",
    "fedjax": "fedjax_peer",
    "fedhm_jax": "fedhm_peer",
}
"""Module of each peer, by the name that the command line gives it."""


def check_names(field: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuses a name that is not known.

    Args:
        field: what the names are, for the message.
        names: as given.
        allowed: all there are.

    Raises:
        ConfigError: one is unknown, or there is none.

    Example:
        >>> check_names("peers", ["pfl"], ["pfl", "torch"])
    """
    for name in names or [""]:
        if name not in allowed:
            raise ConfigError.of(field, name, f"one or more of {', '.join(allowed)}")


def set_up(peer: str, folder: Path) -> None:
    """Creates a peer's environment, unless it is there at these pins.

    Args:
        peer: its name.
        folder: of all environments.

    Raises:
        subprocess.CalledProcessError: pip could not install a package; its output says why.
    """
    module = PEERS[peer]
    if module not in PINS or _is_ready(peer, folder):
        return
    home = folder / peer
    venv.create(home, with_pip=True, clear=True)
    for arguments in PINS[module]:
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", *arguments], check=True)
    _stamp(peer, folder).write_text(repr(PINS[module]))


def interpreter(peer: str, folder: Path) -> Path:
    """The Python that runs a peer.

    Args:
        peer: its name.
        folder: of all environments.

    Returns:
        Its environment's Python; this one for fedhm_jax.

    Raises:
        ConfigError: the environment is missing or not at these pins.
    """
    if PEERS[peer] not in PINS:
        return Path(sys.executable)
    if not _is_ready(peer, folder):
        raise ConfigError(f"{peer} is not set up in {folder}: python -m benchmarks.peers setup {peer}")
    return (folder / peer / "bin" / "python").absolute()


def _stamp(peer: str, folder: Path) -> Path:
    return folder / peer / "pins.txt"


def _is_ready(peer: str, folder: Path) -> bool:
    stamp = _stamp(peer, folder)
    return stamp.exists() and stamp.read_text() == repr(PINS[PEERS[peer]])
