"""One of two processes that prepare a run of sharded samples; prints the bytes that each of its devices has of them.

python tests/support/own_samples.py HOST:PORT PROCESS
"""

import json
import sys

import jax

from fedhm_jax import PartitionConfig, ServerConfig, SimulationConfig
from fedhm_jax.engine import join, show_cores
from fedhm_jax.run.preparation.assembly import check_run, place_data

CLIENTS = 9


def main(coordinator: str, process: int) -> None:
    """Prints the bytes by number of the device, and those of all training images."""
    show_cores(4, 2)
    join(coordinator, 2, process)
    server = ServerConfig(devices=4, samples="sharded")
    parts = check_run(SimulationConfig(partition=PartitionConfig(clients=CLIENTS), server=server))
    data, _ = place_data(parts)
    held = {shard.device.id: shard.data.nbytes for shard in data.samples.images.addressable_shards}
    print(json.dumps({"held": held, "whole": parts.dataset.train_images.nbytes}))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
