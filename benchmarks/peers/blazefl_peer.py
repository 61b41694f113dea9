"""BlazeFL: its own FedAvg server and trainers, single-threaded or with a pool of threads, the mode it recommends."""

from collections.abc import Callable
from typing import Any

import torch
from blazefl.contrib.fedavg import FedAvgBaseClientTrainer, FedAvgBaseServerHandler, FedAvgThreadPoolClientTrainer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.torch_models import build_model, client_tensors, probe_loss
from benchmarks.peers.workload import Task, Workload


class Models:
    """What BlazeFL asks for a model."""

    def select_model(self, model_name: str) -> torch.nn.Module:
        """A new model."""
        return build_model(model_name)


class Clients:
    """What BlazeFL asks for a client's batches."""

    def __init__(self, workload: Workload) -> None:
        self._datasets = [TensorDataset(*client_tensors(workload, client)) for client in range(workload.clients)]

    def get_dataloader(self, type_: Any, cid: int, batch_size: int, generator: torch.Generator) -> DataLoader:
        """A client's training samples in random order."""
        return DataLoader(self._datasets[cid], batch_size=batch_size, shuffle=True, generator=generator)


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    workload = task.workload
    shared: dict[str, Any] = {
        "model_selector": Models(),
        "model_name": workload.model,
        "dataset": Clients(workload),
        "num_clients": workload.clients,
        "device": "cpu",
        "batch_size": workload.batch_size,
        "seed": 0,
    }
    server = FedAvgBaseServerHandler(
        **shared, global_round=task.total_rounds, sample_ratio=workload.cohort / workload.clients
    )
    recipe = {**shared, "epochs": 1, "lr": workload.learning_rate}
    trainer = (
        FedAvgThreadPoolClientTrainer(**recipe, num_parallels=task.at_once)
        if task.at_once > 1
        else FedAvgBaseClientTrainer(**recipe)
    )
    while not server.if_stop():
        trainer.local_process(server.downlink_package(), server.sample_clients())
        for package in trainer.uplink_package():
            server.load(package)
        round_done()
    return probe_loss(server.model, workload)
