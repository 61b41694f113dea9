"""What a client does: its objective, its optimizer, its local steps, and clients side by side."""

from fedhm_jax.client.lanes import Work, even_lanes, result_shapes, stack_results, sum_results
from fedhm_jax.client.objective import Objective, batch_loss, masked_mean, supervised
from fedhm_jax.client.optimizers import learning_rate_schedule, optimizer_by_name
from fedhm_jax.client.update import Assignment, LocalTraining, LocalUpdate, Progress, TrainMetrics, build_local_update

__all__ = [
    "Assignment",
    "LocalTraining",
    "LocalUpdate",
    "Objective",
    "Progress",
    "TrainMetrics",
    "Work",
    "batch_loss",
    "build_local_update",
    "even_lanes",
    "learning_rate_schedule",
    "masked_mean",
    "optimizer_by_name",
    "result_shapes",
    "stack_results",
    "sum_results",
    "supervised",
]
