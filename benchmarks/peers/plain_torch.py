"""What a PyTorch user writes without a simulator: a loop over clients, one model a tier, and the server's sum.

FedAvg is the case of one tier without ranks. With tiers it is FedHM: the server factorizes each kernel once a round,
tiers receive truncations, and the recovered products are averaged.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from benchmarks.peers.torch_models import Ranks, build_model, client_tensors, layer_ranks, loss_of, probe_loss
from benchmarks.peers.workload import Task, Workload

State = dict[str, torch.Tensor]


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    if task.device == "cuda":
        # As XLA computes there by default: products in TF32, and the fastest convolution of those that were tried.
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    workload = task.workload
    data = [client_tensors(workload, client, task.device) for client in range(workload.clients)]
    whole = build_model(workload.model).to(task.device)
    ranks = [layer_ranks(plan) for plan in task.ranks]
    models = [build_model(workload.model, plan).to(task.device) for plan in ranks]
    server = {name: value.clone() for name, value in whole.state_dict().items()}
    for _ in range(task.total_rounds):
        server = _round(server, models, ranks, data, workload)
        if task.device == "cuda":
            torch.cuda.synchronize()
        round_done()
    whole.load_state_dict(server)
    return probe_loss(whole, workload)


def _round(
    server: State,
    models: Sequence[nn.Module],
    ranks: Sequence[Ranks],
    data: Sequence[tuple[torch.Tensor, torch.Tensor]],
    workload: Workload,
) -> State:
    factors = {layer: factorize(server[f"{layer}.weight"]) for layer in sorted(set().union(*ranks))}
    received = [tier_state(server, factors, plan) for plan in ranks]
    total = {name: torch.zeros_like(value) for name, value in server.items()}
    for client in torch.randperm(workload.clients)[: workload.cohort].tolist():
        tier = workload.tier_of(client)
        models[tier].load_state_dict(received[tier])
        inputs, targets = data[client]
        train(models[tier], inputs, targets, workload)
        for name, value in whole_state(models[tier].state_dict(), ranks[tier]).items():
            total[name].add_(value, alpha=1 / workload.cohort)
    return total


def train(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, workload: Workload) -> None:
    """One epoch of SGD in random order."""
    optimizer = torch.optim.SGD(model.parameters(), lr=workload.learning_rate)
    model.train()
    for batch in torch.randperm(len(targets), device=targets.device).split(workload.batch_size):
        optimizer.zero_grad()
        loss_of(model, inputs[batch], targets[batch]).backward()
        optimizer.step()


def factorize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular vectors times the roots of the singular values, of the kernel read as (o * kh) x (i * kw).

    Args:
        weight: (o, i, kh, kw).

    Returns:
        left (o, kh, n) and right (n, i, kw).
    """
    outputs, inputs, height, width = weight.shape
    matrix = weight.reshape(outputs, inputs, height, width).transpose(1, 2).reshape(outputs * height, inputs * width)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values.sqrt()
    return (left * root).reshape(outputs, height, -1), (root[:, None] * right).reshape(-1, inputs, width)


def tier_state(server: State, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]], ranks: Ranks) -> State:
    """The state of a tier's model: factorized layers hold the leading directions of their kernel."""
    state = dict(server)
    for layer, rank in ranks.items():
        left, right = factors[layer]
        u, v = left[..., :rank].transpose(1, 2)[..., None], right[:rank, :, None]
        del state[f"{layer}.weight"]
        state[f"{layer}.u.weight"], state[f"{layer}.v.weight"] = u, v
        if f"{layer}.bias" in state:
            state[f"{layer}.u.bias"] = state.pop(f"{layer}.bias")
    return state


def whole_state(state: State, ranks: Ranks) -> State:
    """The state of the whole model: factors are replaced by their product."""
    whole = dict(state)
    for layer in ranks:
        u, v = whole.pop(f"{layer}.u.weight"), whole.pop(f"{layer}.v.weight")
        whole[f"{layer}.weight"] = torch.einsum("orh,riw->oihw", u[..., 0], v[:, :, 0])
        if f"{layer}.u.bias" in whole:
            whole[f"{layer}.bias"] = whole.pop(f"{layer}.u.bias")
    return whole
