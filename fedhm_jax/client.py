"""What a client does in a round: a loop of optimizer steps on its own samples, from the model it received."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fedhm_jax.augmentation import crop_flip
from fedhm_jax.client_data import Client, ClientData, draw_batch, epoch_order
from fedhm_jax.decomposition import Factors, is_factors
from fedhm_jax.objective import Objective
from fedhm_jax.tree import Params


class LocalTraining(NamedTuple):
    """How clients train; static, closed over by the compiled round.

    Attributes:
        optimizer: from learning rate to optax optimizer.
        batch_size: samples per step.
        epochs: passes over the client's samples.
        steps: optimizer steps, in place of epochs, or None.
        weight_decay: c in ``c w``, added to the gradient of every parameter.
        frobenius_decay: c in the gradient of ``c/2 ||u v||_F^2``.
        proximal: mu in ``mu (w - w_received)``.
        augment: random crop and flip.
    """

    optimizer: Callable[[jax.Array], optax.GradientTransformation]
    batch_size: int
    epochs: int = 1
    steps: int | None = None
    weight_decay: float = 0.0
    frobenius_decay: float = 0.0
    proximal: float = 0.0
    augment: bool = False


class TrainMetrics(NamedTuple):
    """Sums over training; divide last.

    Attributes:
        loss: sum of the samples' losses in nats, decay terms left out.
        samples: number of samples the loss was summed over, each pass counted.
        clients: number of clients that trained and whose update was accepted; the sums are over these.
        rejected: number of clients whose update was not.
    """

    loss: jax.Array
    samples: jax.Array
    clients: jax.Array
    rejected: jax.Array


def penalty_gradient(params: Params, received: Params, training: LocalTraining) -> Params:
    """Gradient of the terms that pull on parameters rather than on predictions.

    ``c_w w + mu (w - w_received)`` on every parameter, and ``c_F u v v^T``, ``c_F u^T u v`` on factors.

    Args:
        params: current parameters of the tier.
        received: parameters the server sent.
        training: its ``weight_decay``, ``proximal`` and ``frobenius_decay`` are the coefficients.

    Returns:
        Tree like ``params``.

    Example:
        >>> training = LocalTraining(optax.sgd, batch_size=1, weight_decay=0.5)
        >>> penalty_gradient({"w": jnp.array([2.0])}, {"w": jnp.array([0.0])}, training)["w"].tolist()
        [1.0]

    Source: FedHM (arXiv 2111.14655) for the Frobenius decay; FedProx (1812.06127) for the proximal term.
    """
    elementwise = jax.tree.map(
        lambda w, start: training.weight_decay * w + training.proximal * (w - start), params, received
    )
    if not training.frobenius_decay:
        return elementwise
    return jax.tree.map(
        lambda node, term: _add_frobenius(node, term, training.frobenius_decay) if is_factors(node) else term,
        params,
        elementwise,
        is_leaf=is_factors,
    )


def _add_frobenius(factors: Factors, term: Factors, coefficient: float) -> Factors:
    """Adds the gradient of half the squared norm of the product; the rank x rank Gram matrices make it cheap."""
    rank = factors.rank
    v = factors.v.reshape(-1, rank)
    u = jnp.moveaxis(factors.u, -2, 0).reshape(rank, -1)
    v_gradient = (v @ (u @ u.T)).reshape(factors.v.shape)
    u_moved = jnp.moveaxis(factors.u, -2, 0)
    u_gradient = jnp.moveaxis(((v.T @ v) @ u).reshape(u_moved.shape), 0, -2)
    return Factors(v=term.v + coefficient * v_gradient, u=term.u + coefficient * u_gradient)


def build_local_update(
    objective: Objective, training: LocalTraining, capacity: int
) -> Callable[..., tuple[Params, TrainMetrics]]:
    """Compiles a training recipe into one client's update.

    The loop runs exactly the client's own number of steps: a client with few samples, or an empty place in the cohort,
    costs no more than its own work. A last batch that is not full is masked.

    Args:
        objective: what the client minimises; the recipe's penalties come on top.
        training: the recipe.
        capacity: samples of the largest client.

    Returns:
        ``local_update(received, client, data, learning_rate, key) -> (params, metrics)``; ``received`` is returned
        unchanged for a client that is not present. The batches of epoch e follow from ``fold_in(key, e)``.
    """
    batch_size = training.batch_size
    capacity = -(-capacity // batch_size) * batch_size

    def local_update(
        received: Params, client: Client, data: ClientData, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[Params, TrainMetrics]:
        optimizer = training.optimizer(learning_rate)
        steps_per_epoch = jnp.maximum(-(-client.size // batch_size), 1)
        wanted = training.epochs * steps_per_epoch if training.steps is None else jnp.int32(training.steps)
        steps = jnp.where(client.present & (client.size > 0), wanted, 0)

        def step(index: jax.Array, carry: Any, order: jax.Array, epoch_key: jax.Array) -> Any:
            params, opt_state, loss_sum, samples = carry
            augment_key, objective_key = jax.random.split(jax.random.fold_in(epoch_key, index))
            batch = draw_batch(data, client, order, index, batch_size)
            if training.augment:
                batch = batch._replace(images=crop_flip(augment_key, batch.images))
            gradient, loss = jax.grad(objective, has_aux=True)(params, batch, client.owned, objective_key)
            gradient = jax.tree.map(jnp.add, gradient, penalty_gradient(params, received, training))
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            drawn = batch.mask.sum().astype(jnp.int32)
            return optax.apply_updates(params, updates), opt_state, loss_sum + loss, samples + drawn

        def epoch(index: jax.Array, carry: Any) -> Any:
            epoch_key = jax.random.fold_in(key, index)
            order = epoch_order(epoch_key, client.size, capacity)
            steps_left = jnp.minimum(steps - index * steps_per_epoch, steps_per_epoch)
            return lax.fori_loop(0, steps_left, lambda i, c: step(i, c, order, epoch_key), carry)

        start = (received, optimizer.init(received), jnp.zeros((), data.mean.dtype), jnp.int32(0))
        epochs = -(-steps // steps_per_epoch)
        params, _, loss_sum, samples = lax.fori_loop(0, epochs, epoch, start)
        return params, TrainMetrics(loss_sum, samples, client.present.astype(jnp.int32), jnp.int32(0))

    return local_update
