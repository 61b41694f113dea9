"""pfl: its FederatedAveraging over a SimulatedBackend, in-memory user datasets, in one process or several.

Several processes are pfl's own way, a rank and the list of addresses in the environment; the first starts the others.
pfl runs a client's batches in their given order.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from benchmarks.peers.torch_models import build_model, client_tensors, loss_of, probe_loss
from benchmarks.peers.workload import Task


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    with ExitStack() as stack:
        if task.at_once > 1 and "PFL_WORKER_RANK" not in os.environ:
            for process in _start_other_ranks(task):
                stack.enter_context(process)
                stack.callback(process.kill)
        return _run(task, round_done)


def _start_other_ranks(task: Task) -> list[subprocess.Popen[bytes]]:
    """Makes this process rank 0, and starts the others as its children."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    # All but the first address only tell how many ranks there are.
    os.environ["PFL_WORKER_ADDRESSES"] = ",".join([f"localhost:{port}"] * task.at_once)
    os.environ["PFL_WORKER_RANK"] = "0"
    command = [sys.executable, "-m", "benchmarks.peers.worker", "pfl_peer", task.to_json()]
    return [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PFL_WORKER_RANK": str(rank)})
        for rank in range(1, task.at_once)
    ]


def _run(task: Task, round_done: Callable[[], None]) -> float:
    # Importing pfl.model.pytorch joins the ranks.
    import numpy as np
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(task.threads)
    # Every rank draws the same cohorts and the same first model.
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  pfl draws from the global generator
    workload = task.workload
    tensors = [client_tensors(workload, client) for client in range(workload.clients)]

    def user_dataset(user_id: int) -> Any:
        return PyTorchTensorDataset(tensors[user_id], user_id=str(user_id))

    def loss(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return loss_of(network.train(), inputs, targets)

    def metrics(inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        return {"loss": Weighted(loss(inputs, targets).item() * len(targets), len(targets))}

    class TellRound(TrainingProcessCallback):
        def after_central_iteration(self, *args: Any, **kwargs: Any) -> tuple[bool, Any]:
            round_done()
            return False, Metrics()

    network = build_model(workload.model)
    network.loss, network.metrics = loss, metrics
    users = FederatedDataset(user_dataset, get_user_sampler("minimize_reuse", list(range(workload.clients))))
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=task.total_rounds,
            # pfl evaluates in the first round, a part of start-up, and then never again.
            evaluation_frequency=task.total_rounds,
            train_cohort_size=workload.cohort,
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(training_data=users, val_data=users),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=workload.learning_rate, local_batch_size=workload.batch_size
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=workload.batch_size),
        callbacks=[TellRound()],
        send_metrics_to_platform=False,
    )
    return probe_loss(network, workload)
