"""Decoder and ViT against a slow NumPy twin, and what is read off them: ranks, costs, slices, stages."""

from functools import cache

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax import ConfigError
from fedhm_jax.lowrank import Factors, factorize_tree, with_factors
from fedhm_jax.models.build import build_model
from fedhm_jax.models.costs import count_macs, count_parameters
from fedhm_jax.models.decoder import Decoder
from fedhm_jax.models.depth import DepthNet, exits_of
from fedhm_jax.models.network import network_of
from fedhm_jax.models.rank_plan import factorizable_kernels, plan_ranks
from fedhm_jax.models.transformer import attend
from fedhm_jax.models.vit import ViT
from fedhm_jax.models.width_plan import ChannelAxis, hidden_layers, plan_widths, roll_width, slice_width
from fedhm_jax.run.preparation.model import check_model
from fedhm_jax.tree import map_named, named_leaves

KEY = jax.random.key(0)
SYMBOLS, CLASSES, WIDTH, HEADS, DEPTH = 7, 3, 8, 2, 2
DECODER = Decoder(SYMBOLS, WIDTH, DEPTH, HEADS, window=6)
VIT = ViT(CLASSES, WIDTH, depth=1, heads=HEADS)
TOKENS = np.array([[3, 0, 6, 1, 1], [5, 5, 2, 4, 0]], np.int32)  # one less than the window
IMAGES = np.random.default_rng(5).normal(size=(2, 8, 12, 2))
BLOCK_KERNELS = [*(f"attention/{name}" for name in ("query", "key", "value", "output")), "dense_0", "dense_1"]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


INPUTS = {
    DECODER: jax.ShapeDtypeStruct(TOKENS.shape, jnp.int32),
    VIT: jax.ShapeDtypeStruct(IMAGES.shape, jnp.float32),
}


def shapes_of(module):
    return jax.eval_shape(module.init, KEY, INPUTS[module])["params"]


@cache
def drawn(module):
    """Random biases and scales too: zeros and ones would hide errors in them."""
    generator = np.random.default_rng(0)
    return map_named(
        lambda path, leaf: jnp.asarray(path.endswith("scale") + 0.5 * generator.normal(size=leaf.shape)),
        shapes_of(module),
    )


apply_decoder = jax.jit(lambda params, tokens: DECODER.apply({"params": params}, tokens))


# --- the twin: position by position, sizes as the parameters have them ------------------------------------------------


def norm(params, name, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * params[f"{name}/scale"] + params[f"{name}/bias"]


def dense(params, name, x):
    return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(params, name, x, causal):
    query, key, value = (dense(params, f"{name}/{part}", x) for part in ("query", "key", "value"))
    read = np.zeros_like(value)
    for head in np.split(np.arange(value.shape[-1]), HEADS):
        for position in range(len(x)):
            seen = range(position + 1 if causal else len(x))
            scores = [np.exp(query[position, head] @ key[other, head] / np.sqrt(len(head))) for other in seen]
            for score, other in zip(scores, seen, strict=True):
                read[position, head] += score / sum(scores) * value[other, head]
    return dense(params, f"{name}/output", read)


def blocks(params, x, depth, causal):
    """One sample, (positions, width)."""
    for name in (f"block_{index}" for index in range(depth)):
        x = x + attention(params, f"{name}/attention", norm(params, f"{name}/norm_0", x), causal)
        wide = gelu(dense(params, f"{name}/dense_0", norm(params, f"{name}/norm_1", x)))
        x = x + dense(params, f"{name}/dense_1", wide)
    return norm(params, "norm", x)


def decoder_twin(tree, tokens):
    params = {path: np.asarray(leaf) for path, leaf in named_leaves(tree).items()}
    logits = []
    for text in tokens:
        x = np.array([params["tokens/kernel"][token] + params["positions/kernel"][at] for at, token in enumerate(text)])
        logits.append(dense(params, "classifier", blocks(params, x, DEPTH, causal=True)))
    return np.array(logits)


def vit_twin(tree, images):
    params = {path: np.asarray(leaf) for path, leaf in named_leaves(tree).items()}
    logits = []
    for image in images:
        corners = [(row, column) for row in range(0, image.shape[0], 4) for column in range(0, image.shape[1], 4)]
        patches = [image[row : row + 4, column : column + 4] for row, column in corners]
        x = np.array([np.einsum("abi,abio->o", patch, params["patches/kernel"]) for patch in patches])
        x = x + params["patches/bias"] + params["positions/kernel"]
        logits.append(dense(params, "classifier", blocks(params, x, VIT.depth, causal=False).mean(0)))
    return np.array(logits)


# --- what they compute -----------------------------------------------------------------------------------------------


def test_a_decoder_computes_what_its_twin_does():
    params = drawn(DECODER)
    np.testing.assert_allclose(apply_decoder(params, TOKENS), decoder_twin(params, TOKENS), rtol=1e-10, atol=1e-10)


def test_a_vit_computes_what_its_twin_does():
    params = drawn(VIT)
    logits = jax.jit(lambda tree, images: VIT.apply({"params": tree}, images))(params, jnp.asarray(IMAGES))
    np.testing.assert_allclose(logits, vit_twin(params, IMAGES), rtol=1e-10, atol=1e-10)


def test_a_gradient_is_the_slope_of_the_twin():
    params, generator = drawn(DECODER), np.random.default_rng(3)
    weights = generator.normal(size=(*TOKENS.shape, SYMBOLS))
    direction = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), params)
    gradient = jax.jit(jax.grad(lambda tree: (DECODER.apply({"params": tree}, TOKENS) * weights).sum()))(params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda one, other: (np.asarray(one) * other).sum(), gradient, direction)))

    def moved(step):
        tree = jax.tree.map(lambda leaf, along: np.asarray(leaf) + step * along, params, direction)
        return (decoder_twin(tree, TOKENS) * weights).sum()

    np.testing.assert_allclose(slope, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-6)


def test_a_later_symbol_does_not_change_earlier_scores():
    for changed in range(TOKENS.shape[1]):
        other = TOKENS.copy()
        other[:, changed] = (other[:, changed] + 1) % SYMBOLS
        before, after = (np.asarray(apply_decoder(drawn(DECODER), tokens)) for tokens in (TOKENS, other))
        np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
        assert (before[:, changed:] != after[:, changed:]).all()


def test_at_full_rank_the_factors_compute_what_the_kernels_do():
    params = drawn(DECODER)
    kernels = factorizable_kernels(DECODER, INPUTS[DECODER])
    factors = {}
    for path, kernel in named_leaves(params).items():
        if path in kernels:
            left, values, right = np.linalg.svd(kernel, full_matrices=False)
            factors[path] = Factors(left * np.sqrt(values), np.sqrt(values)[:, None] * right)
    factorized = with_factors(params, factors, {path: min(shape) for path, shape in kernels.items()})
    assert count_parameters(factorized) > count_parameters(params)
    np.testing.assert_allclose(apply_decoder(factorized, TOKENS), apply_decoder(params, TOKENS), rtol=1e-9, atol=1e-9)


def test_gradients_of_clients_side_by_side_lower_everywhere():
    for module, inputs in INPUTS.items():
        two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), (shapes_of(module), inputs))
        gradients = jax.vmap(jax.grad(lambda tree, x, net=module: net.apply({"params": tree}, x, train=True).sum()))
        program = jax.export.export(jax.jit(gradients), platforms=("cpu", "cuda", "tpu"))(*two)
        assert [leaf.shape for leaf in program.out_avals] == [leaf.shape for leaf in jax.tree.leaves(two[0])]


def test_half_precision_stays_where_it_is_asked_for():
    low, images = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), (shapes_of(VIT), INPUTS[VIT])
    )
    assert jax.eval_shape(lambda tree, x: VIT.apply({"params": tree}, x), low, images).dtype == jnp.bfloat16
    train = network_of(VIT, False, jnp.bfloat16).train
    assert jax.eval_shape(train, shapes_of(VIT), INPUTS[VIT], None, KEY).dtype == jnp.float32


def test_scores_in_half_precision_are_not_rounded_to_it():
    # 149.25 and 150, between which bfloat16 has no number but 149
    queries, keys, values = (
        jnp.asarray(two, jnp.bfloat16).reshape(1, 2, 1, 1) for two in ([1.5] * 2, [99.5, 100], [0, 1])
    )
    read = attend(queries, keys, values, causal=False)
    assert read.dtype == jnp.bfloat16
    np.testing.assert_allclose(read.astype(jnp.float32).ravel(), 1 / (1 + np.exp(-0.75)), rtol=2**-8)


@pytest.mark.parametrize(
    ("module", "inputs", "sentence"),
    [
        (DECODER, (2, 7), "tokens have 7 positions, but must have at most 6, the window"),
        (Decoder(SYMBOLS, width=9, heads=2), (2, 6), "width is 9, but must be a multiple of heads, which is 2"),
        (VIT, (2, 8, 10, 1), "images have 8 x 10 pixels, but both sides must be multiples of 4"),
    ],
)
def test_what_does_not_fit_is_refused(module, inputs, sentence):
    dtype = jnp.int32 if isinstance(module, Decoder) else jnp.float32
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct(inputs, dtype))


def test_a_decoder_of_images_is_refused():
    with pytest.raises(ConfigError, match=r"tokens are float32 of shape \(2, 8, 8, 1\), but must be integers"):
        check_model(DECODER, jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32), SYMBOLS)


# --- ranks and costs -------------------------------------------------------------------------------------------------


def test_the_kernels_of_the_blocks_are_factorized():
    decoder, tokens = build_model("decoder", classes=65), jax.ShapeDtypeStruct((1, 64), jnp.int32)
    vit, images = build_model("vit", classes=10), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    kernels = factorizable_kernels(decoder, tokens)
    assert list(kernels) == [f"block_{block}/{name}/kernel" for block in range(4) for name in BLOCK_KERNELS]
    assert [kernels[f"block_3/{name}/kernel"] for name in BLOCK_KERNELS] == [(128, 128)] * 4 + [(128, 512), (512, 128)]
    assert factorizable_kernels(vit, images) == kernels
    # 128 * 128 / (4 * 256) and 128 * 512 / (4 * 640)
    assert list(plan_ranks(kernels, 4.0).values()) == ([16] * 4 + [26] * 2) * 4


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_costs_are_those_counted_by_hand(factor):
    width, positions, symbols, depth = 128, 64, 65, 4
    square, wide = (width**2, 4 * width**2) if factor == 1 else (16 * 2 * width, 26 * 5 * width)
    kernels = depth * (4 * square + 2 * wide)
    biases_and_norms = depth * (4 + 4 + 1 + 4) * width + 2 * width
    # Every query meets every key, also those that come later, and every value is read as often.
    products = positions * kernels + depth * 2 * positions**2 * width

    def cost(name, classes, inputs):
        module = build_model(name, classes)
        params = jax.eval_shape(module.init, KEY, inputs)["params"]
        plan = plan_ranks(factorizable_kernels(module, inputs), factor)
        tier = jax.eval_shape(lambda tree: with_factors(tree, factorize_tree(tree, plan, "gram"), plan), params)
        return count_parameters(tier), count_macs(lambda tree, x: module.apply({"params": tree}, x), tier, inputs)

    embedded, classifier = (symbols + positions) * width, symbols * width + symbols
    assert cost("decoder", symbols, jax.ShapeDtypeStruct((1, positions), jnp.int32)) == (
        kernels + biases_and_norms + embedded + classifier,
        products + positions * width * symbols,
    )
    embedded, classifier = 4 * 4 * 3 * width + width + positions * width, 10 * width + 10
    assert cost("vit", 10, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)) == (
        kernels + biases_and_norms + embedded + classifier,
        products + positions * 4 * 4 * 3 * width + width * 10,
    )


# --- slices ----------------------------------------------------------------------------------------------------------


def plan_of(module):
    return plan_widths(module, INPUTS[module])


def test_the_heads_stay_and_get_narrower():
    stream, heads, wide = ChannelAxis(1, WIDTH), ChannelAxis(HEADS, WIDTH // HEADS), ChannelAxis(1, 4 * WIDTH)
    first = {
        **{f"block_0/attention/{name}/kernel": (stream, heads) for name in ("query", "key", "value")},
        **{f"block_0/attention/{name}/bias": (heads,) for name in ("query", "key", "value")},
        "block_0/attention/output/kernel": (heads, stream),
        "block_0/dense_0/kernel": (stream, wide),
        "block_0/dense_0/bias": (wide,),
        "block_0/dense_1/kernel": (wide, stream),
        **{f"block_0/{name}/bias": (stream,) for name in ("attention/output", "dense_1", "norm_0", "norm_1")},
        **{f"{name}/scale": (stream,) for name in ("block_0/norm_0", "block_0/norm_1")},
    }
    around = {"norm/scale": (stream,), "norm/bias": (stream,), "positions/kernel": (None, stream)}
    around |= {"classifier/kernel": (stream, None), "classifier/bias": (None,)}
    second = {path.replace("block_0", "block_1"): axes for path, axes in first.items()}
    assert plan_of(DECODER) == {**first, **second, **around, "tokens/kernel": (None, stream)}
    patches = {"patches/kernel": (None, None, None, stream), "patches/bias": (stream,)}
    assert plan_of(VIT) == {**first, **around, **patches}
    layers = {f"block_0/{name}" for name in BLOCK_KERNELS}
    assert hidden_layers(plan_of(VIT)) == {"patches", "positions", *layers}


def test_a_slice_is_a_narrower_transformer():
    params, width = drawn(DECODER), 0.64
    # 5.12 of 8 channels, 2.56 of the 4 of a head, 20.48 of 32
    stream, heads, wide = np.arange(5), np.array([0, 1, 2, 4, 5, 6]), np.arange(20)
    kept = {(1, 8): stream, (2, 4): heads, (1, 32): wide}
    plan = plan_of(DECODER)

    def by_hand(path, leaf):
        axes = [
            np.arange(size) if axis is None else kept[axis] for size, axis in zip(leaf.shape, plan[path], strict=True)
        ]
        return np.asarray(leaf)[np.ix_(*axes)]

    narrow = jax.jit(lambda tree: slice_width(tree, plan, width))(params)
    jax.tree.map(np.testing.assert_array_equal, narrow, map_named(by_hand, params))
    np.testing.assert_allclose(apply_decoder(narrow, TOKENS), decoder_twin(narrow, TOKENS), rtol=1e-10, atol=1e-10)


def test_turning_a_transformer_leaves_its_function_as_it_is():
    params, plan = drawn(DECODER), plan_of(DECODER)
    turn = jax.jit(lambda tree, shift: roll_width(tree, plan, shift))
    for shift in (1, -3):
        turned = turn(params, jnp.int32(shift))
        assert float(jnp.abs(turned["classifier"]["kernel"] - params["classifier"]["kernel"]).max()) > 0.1
        np.testing.assert_allclose(apply_decoder(turned, TOKENS), apply_decoder(params, TOKENS), rtol=1e-9, atol=1e-9)


# --- stages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "scores"), [(DECODER, (*TOKENS.shape, SYMBOLS)), (VIT, (2, CLASSES))])
def test_a_prefix_has_a_plain_head_behind_every_block(module, scores):
    exits = exits_of(module, INPUTS[module])
    # No block changes the map's shape, so none is stood in for.
    heads = [*(f"head_{stage}" for stage in range(module.depth)), "classifier"]
    assert [(exit.head, exit.steps) for exit in exits] == [(head, ()) for head in heads]
    logits, variables = jax.eval_shape(DepthNet(exits, scores[-1]).init_with_output, KEY, INPUTS[module])
    assert logits.shape == (module.depth + 1, *scores)
    own = {name: layer for name, layer in variables["params"].items() if name not in heads[:-1]}
    assert own == shapes_of(module)
