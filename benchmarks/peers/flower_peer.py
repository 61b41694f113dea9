"""Flower: its FedAvg strategy on the simulation engine, one Ray actor a core, the client code of its quick-start."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.torch_models import build_model, client_tensors, probe_loss
from benchmarks.peers.workload import Task

client_app = ClientApp()


@cache
def _dataset(text: str, client: int) -> TensorDataset:
    return TensorDataset(*client_tensors(Task.from_json(text).workload, client))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One client's epoch, in an actor."""
    text = message.content["config"]["task"]
    task = Task.from_json(text)
    workload = task.workload
    torch.set_num_threads(task.threads)
    model = build_model(workload.model)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=workload.learning_rate)
    loader = DataLoader(
        _dataset(text, int(context.node_config["partition-id"])), batch_size=workload.batch_size, shuffle=True
    )
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": workload.samples}),
    }
    return Message(content=RecordDict(content), reply_to=message)


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    workload = task.workload
    model = build_model(workload.model)
    server_app = ServerApp()

    def after_round(finished: int, arrays: ArrayRecord) -> None:
        # Flower evaluates the initial model too, as round 0.
        if finished > 0:
            round_done()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=workload.cohort / workload.clients,
            fraction_evaluate=0.0,
            min_train_nodes=workload.cohort,
            min_available_nodes=workload.clients,
        )
        result: Any = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model.state_dict()),
            train_config=ConfigRecord({"task": task.to_json()}),
            num_rounds=task.total_rounds,
            evaluate_fn=after_round,
        )
        model.load_state_dict(result.arrays.to_torch_state_dict())

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=workload.clients,
        backend_config={
            "init_args": {"num_cpus": task.at_once, "num_gpus": 0},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    return probe_loss(model, workload)
