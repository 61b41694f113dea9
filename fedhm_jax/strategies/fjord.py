"""FjORD: ordered dropout, so that every narrow model inside a client's model is trained too.

Horvath, Laskaridis, Almeida, Leontiadis, Venieris, Lane: "FjORD: Fair and Accurate Federated Learning under
heterogeneous targets with Ordered Dropout", NeurIPS 2021, arXiv 2102.13451. In every step a client draws one of the
widths up to its own and trains that leading slice together with its whole model, which teaches the slice
(self-distillation). The server takes the mean of every element over the clients that hold it.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import Objective, batch_loss, masked_mean
from fedhm_jax.models import Budget, slice_width
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.heterofl import heterofl
from fedhm_jax.strategies.slices import Slices, plan_slices
from fedhm_jax.tasks import Batch, mask_absent_classes
from fedhm_jax.tree import Params


def fjord(
    setting: Setting,
    *,
    widths: Sequence[float] | None = None,
    budget: Budget = "bytes",
    distillation: float = 1.0,
) -> Strategy[Params]:
    """The FjORD strategy.

    Args:
        setting: what to build for.
        widths: share of the channels of each tier, from which steps draw; solved to match FedHM's cost if None.
        budget: unit of that cost.
        distillation: weight of the drawn slice's loss against its client's whole model.

    Returns:
        The strategy; its state is the full-width model.

    Raises:
        ConfigError: the model cannot be sliced, or no width meets a tier's budget.

    Source: arXiv 2102.13451, sections 3.2 and 4.1.
    """
    slices = plan_slices(setting, widths, budget)
    leading = heterofl(setting, widths=slices.widths)
    tiers = range(len(slices.widths))
    objectives = [_ordered_dropout(setting, slices, tier, float(distillation)) for tier in tiers]
    return leading._replace(
        # Slices are nested in training, so they agree without HeteroFL's scaler.
        networks=(leading.network,) * len(tiers),
        objective=lambda state, tier: objectives[tier],
    )


def _ordered_dropout(setting: Setting, slices: Slices, tier: int, distillation: float) -> Objective:
    """``L(f(W), y) + distillation * D(f(W_p), f(W))`` with a width p drawn for the step and f(W) taken as it is; no
    second term if p is the client's own width. For classes, D is the divergence of the two predictions, whose gradient
    is that of the cross-entropy with soft labels."""
    network, task, own = setting.network, setting.task, slices.widths[tier]
    drawn_widths = slices.widths[tier:]

    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        draw_key, whole_key, slice_key = jax.random.split(key, 3)
        outputs = network.train(params, batch.inputs, batch.mask, whole_key)
        answers = lax.stop_gradient(outputs)
        mean, total = batch_loss(mask_absent_classes(outputs, owned) if setting.masked_loss else outputs, batch, task)

        def distil(width: float) -> Callable[[Params], jax.Array]:
            def loss(params: Params) -> jax.Array:
                if width == own:
                    return jnp.zeros_like(mean)
                narrow = slice_width(params, slices.plan, width)
                learner = network.train(narrow, batch.inputs, batch.mask, slice_key)
                return distillation * masked_mean(task.teach(learner, answers), batch.mask)[0]

            return loss

        drawn = jax.random.randint(draw_key, (), 0, len(drawn_widths))
        return mean + lax.switch(drawn, [distil(width) for width in drawn_widths], params), total

    return objective
