"""The accelerators that are compiled for: what they can do by their data sheets, and how XLA is told of them."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from fedhm_jax.engine.sharding import CLIENTS

HERE = Path(__file__).parent


class Chip(NamedTuple):
    """One chip, by its maker's data sheet.

    Attributes:
        platform: ``gpu`` or ``tpu``.
        memory: bytes.
        flops: FLOP/s of float32 products in the precision that XLA takes by default: TF32 on a GPU, bfloat16 on a TPU.
        bandwidth: bytes/s of its memory.
        interconnect: bytes/s to the other chips.
        launch: seconds from one kernel to the next where they do nothing. Assumed, not from a data sheet.
    """

    platform: str
    memory: float
    flops: float
    bandwidth: float
    interconnect: float
    launch: float


CHIPS = {
    "h100": Chip("gpu", 80 * 2**30, 495e12, 3.35e12, 450e9, 3e-6),
    "a100": Chip("gpu", 80 * 2**30, 156e12, 2.04e12, 300e9, 3e-6),
    "v5e": Chip("tpu", 16 * 2**30, 197e12, 0.82e12, 200e9, 0.5e-6),
    "v6e": Chip("tpu", 32 * 2**30, 918e12, 1.64e12, 448e9, 0.5e-6),
}
"""Of NVIDIA's H100 SXM5 and A100 SXM4 whitepapers, rates without sparsity, and of cloud.google.com/tpu/docs."""


class Target(NamedTuple):
    """What a round is compiled for.

    Attributes:
        chip: a name in `CHIPS`.
        slice: its chips side by side, such as ``2x4``; empty for one chip.
    """

    chip: str
    slice: str = ""

    @property
    def devices(self) -> int:
        """Number of chips."""
        return int(np.prod([int(side) for side in self.slice.split("x")])) if self.slice else 1


TARGETS = {
    "h100": Target("h100"),
    "a100": Target("a100"),
    "v5e": Target("v5e"),
    "v6e": Target("v6e"),
    "v5e-2x4": Target("v5e", "2x4"),
    "v6e-2x4": Target("v6e", "2x4"),
}


def what_is_missing(target: Target) -> str | None:
    """Why a target cannot be compiled for.

    Args:
        target: what to compile for.

    Returns:
        A clause; None if nothing is missing.
    """
    if CHIPS[target.chip].platform == "tpu":
        return None if find_spec("libtpu") else "libtpu cannot be imported (pip install libtpu)"
    there = any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    return None if there else 'no CUDA plugin of JAX can be imported (pip install "jax[cuda12]")'


def devices_of(target: Target) -> list[jax.Device]:
    """The chips of a target, known to the compiler and nowhere else.

    Args:
        target: what to compile for.

    Returns:
        As many devices as it has chips.
    """
    if CHIPS[target.chip].platform == "gpu":
        description = (HERE / f"{target.chip}.txtpb").read_text()
        topology = topologies.get_topology_desc("", platform="cuda", target_config=description, topology="1x1x1")
    else:
        # There is no machine to be asked what it is, and compiling takes no chip away from another process.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        name = f"{target.chip}:{target.slice or '2x2'}"
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name)
    devices: list[jax.Device] = list(topology.devices)
    return devices[: target.devices]


def mesh_of(devices: list[jax.Device]) -> Mesh | None:
    """The mesh that clients are spread over, as `fedhm_jax.engine.client_mesh` makes it of devices that are there.

    Args:
        devices: from `devices_of`.

    Returns:
        The mesh; None for one device.
    """
    return None if len(devices) == 1 else Mesh(np.array(devices), (CLIENTS,), axis_types=(AxisType.Explicit,))
