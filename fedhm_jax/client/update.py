"""What a client does in a round: a loop of optimizer steps on its own samples, from the model it received."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fedhm_jax.client.objective import Objective
from fedhm_jax.data import Client, ClientData, draw_rows, epoch_order, rows_in_order
from fedhm_jax.lowrank import Factors, is_factors
from fedhm_jax.tasks import CLASSIFICATION, Batch, Task
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
        task: what the samples are to teach.
    """

    optimizer: Callable[[jax.Array], optax.GradientTransformation]
    batch_size: int
    epochs: int = 1
    steps: int | None = None
    weight_decay: float = 0.0
    frobenius_decay: float = 0.0
    proximal: float = 0.0
    task: Task = CLASSIFICATION


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


def add_penalties(gradient: Params, params: Params, received: Params, training: LocalTraining) -> Params:
    """Adds the gradient of the terms that pull on parameters rather than on predictions.

    ``c_w w + mu (w - w_received)`` on every parameter, and ``c_F u v v^T``, ``c_F u^T u v`` on factors.

    Args:
        gradient: of the predictions' loss.
        params: current parameters of the tier.
        received: parameters the server sent.
        training: its ``weight_decay``, ``proximal`` and ``frobenius_decay`` are the coefficients.

    Returns:
        Tree like ``params``.

    Example:
        >>> gradient, params, received = ({"w": jnp.array([value])} for value in (3.0, 2.0, 0.0))
        >>> training = LocalTraining(optax.sgd, batch_size=1, weight_decay=0.5)
        >>> add_penalties(gradient, params, received, training)["w"].tolist()
        [4.0]

    Source: FedHM (arXiv 2111.14655) for the Frobenius decay; FedProx (1812.06127) for the proximal term.
    """
    # A term with coefficient zero would still read and write every parameter at every step.
    if training.weight_decay:
        gradient = jax.tree.map(lambda g, w: g + training.weight_decay * w, gradient, params)
    if training.proximal:
        gradient = jax.tree.map(lambda g, w, start: g + training.proximal * (w - start), gradient, params, received)
    if training.frobenius_decay:
        gradient = jax.tree.map(
            lambda node, g: _add_frobenius(g, node, training.frobenius_decay) if is_factors(node) else g,
            params,
            gradient,
            is_leaf=is_factors,
        )
    return gradient


def _add_frobenius(gradient: Factors, factors: Factors, coefficient: float) -> Factors:
    """Adds the gradient of half the squared norm of the product; the rank x rank Gram matrices make it cheap."""
    rank = factors.rank
    v = factors.v.reshape(-1, rank)
    u = jnp.moveaxis(factors.u, -2, 0).reshape(rank, -1)
    v_gradient = (v @ (u @ u.T)).reshape(factors.v.shape)
    u_moved = jnp.moveaxis(factors.u, -2, 0)
    u_gradient = jnp.moveaxis(((v.T @ v) @ u).reshape(u_moved.shape), 0, -2)
    return Factors(v=gradient.v + coefficient * v_gradient, u=gradient.u + coefficient * u_gradient)


class Progress(NamedTuple):
    """A client in the middle of its training.

    Attributes:
        params: its model.
        opt_state: of its optimizer.
        loss: sum of the samples' losses so far, in nats.
        samples: number of samples that the loss was summed over.
    """

    params: Params
    opt_state: Any
    loss: jax.Array
    samples: jax.Array


class Assignment(NamedTuple):
    """What one client is to train in a round, and on what.

    Attributes:
        received: the model that the server sent.
        client: who trains.
        data: all clients' samples.
        learning_rate: scalar.
        key: decides the client's batches; those of epoch e follow from ``fold_in(key, e)``.
    """

    received: Params
    client: Client
    data: ClientData
    learning_rate: jax.Array
    key: jax.Array


class LocalUpdate(NamedTuple):
    """One client's training as pure functions, so that several can go side by side and each ends in its own time.

    Attributes:
        begin: ``begin(received, learning_rate) -> Progress``.
        segment: ``segment(client, done) -> steps`` left of the running epoch after ``done`` steps in all, 0 once the
            client is done; one that is absent or has no samples has nothing to do.
        advance: ``advance(assignment, done, steps, progress) -> Progress`` after so many more steps, at most a segment.
    """

    begin: Callable[[Params, jax.Array], Progress]
    segment: Callable[[Client, jax.Array], jax.Array]
    advance: Callable[[Assignment, jax.Array, jax.Array, Progress], Progress]


def build_local_update(objective: Objective, training: LocalTraining, capacity: int) -> LocalUpdate:
    """Compiles a training recipe into one client's update.

    Args:
        objective: the client's loss.
        training: the recipe.
        capacity: samples of the largest client.

    Returns:
        The update.
    """
    batch_size, task = training.batch_size, training.task
    capacity = -(-capacity // batch_size) * batch_size

    def begin(received: Params, learning_rate: jax.Array) -> Progress:
        opt_state = training.optimizer(learning_rate).init(received)
        return Progress(received, opt_state, jnp.zeros((), jnp.result_type(learning_rate)), jnp.int32(0))

    # Nothing here is negative, and the operators of Python would be compiled for the case that it were.
    def steps_per_epoch(client: Client) -> jax.Array:
        return jnp.maximum(lax.div(client.size + (batch_size - 1), jnp.int32(batch_size)), 1)

    def segment(client: Client, done: jax.Array) -> jax.Array:
        wanted = training.epochs * steps_per_epoch(client) if training.steps is None else jnp.int32(training.steps)
        wanted = jnp.where(client.present & (client.size > 0), wanted, 0)
        return jnp.minimum(steps_per_epoch(client) - lax.rem(done, steps_per_epoch(client)), wanted - done)

    def advance(assignment: Assignment, done: jax.Array, steps: jax.Array, progress: Progress) -> Progress:
        received, client, data, learning_rate, key = assignment
        optimizer = training.optimizer(learning_rate)
        epoch_key = jax.random.fold_in(key, lax.div(done, steps_per_epoch(client)))
        first = lax.rem(done, steps_per_epoch(client))
        before = first * batch_size
        rows = rows_in_order(data, client, epoch_order(epoch_key, client.size, capacity), before)

        def step(index: jax.Array, carry: tuple[Params, Any, jax.Array]) -> tuple[Params, Any, jax.Array]:
            augment_key, objective_key = jax.random.split(jax.random.fold_in(epoch_key, first + index))
            chosen, mask = draw_rows(rows, index, client.size - before, batch_size)
            inputs, targets = task.look_up(data.samples, chosen)
            if task.augment is not None:
                inputs = task.augment(augment_key, inputs)
            batch = Batch(inputs, targets, mask.astype(_floating(inputs)))
            params, opt_state, loss_sum = carry
            gradient, loss = jax.grad(objective, has_aux=True)(params, batch, client.owned, objective_key)
            gradient = add_penalties(gradient, params, received, training)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, loss_sum + loss

        drawn = jnp.clip(client.size - before, 0, steps * batch_size)
        begun = (progress.params, progress.opt_state, progress.loss)
        params, opt_state, loss = lax.fori_loop(0, steps, step, begun)
        return Progress(params, opt_state, loss, progress.samples + drawn)

    return LocalUpdate(begin, segment, advance)


def _floating(inputs: Any) -> Any:
    """Type of the mask: that of the inputs, which norms reckon in, or of parameters where inputs are whole numbers."""
    dtype = jax.tree.leaves(inputs)[0].dtype
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.float32


def train_client(update: LocalUpdate, assignment: Assignment) -> Progress:
    """Trains one client from beginning to end.

    Args:
        update: its training.
        assignment: what it trains, and on what.

    Returns:
        How it ended.
    """
    client = assignment.client

    def epoch(carry: tuple[jax.Array, Progress]) -> tuple[jax.Array, Progress]:
        done, progress = carry
        steps = update.segment(client, done)
        return done + steps, update.advance(assignment, done, steps, progress)

    start = (jnp.int32(0), update.begin(assignment.received, assignment.learning_rate))
    return lax.while_loop(lambda carry: update.segment(client, carry[0]) > 0, epoch, start)[1]
