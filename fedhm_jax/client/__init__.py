"""What a client does: its objective, its optimizer, its local steps, and clients side by side."""

from fedhm_jax.client.lanes import Work, even_lanes, result_shapes, stack_results, sum_results
from fedhm_jax.client.losses import cross_entropy, in_top, mask_absent_classes
from fedhm_jax.client.objective import Objective, batch_loss, supervised
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
    "cross_entropy",
    "even_lanes",
    "in_top",
    "learning_rate_schedule",
    "mask_absent_classes",
    "optimizer_by_name",
    "result_shapes",
    "stack_results",
    "sum_results",
    "supervised",
]
