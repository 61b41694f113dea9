"""What a run is asked to do: frozen dataclasses, standard library only.

Every field is a flag of ``fedhm simulate`` (``--local.epochs 2``) and a key of a config file (``[local]`` ``epochs = 2``).
Checking lives in `fedhm_jax.config.validation`; reading and writing files in `fedhm_jax.config.config_file`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


def _as_paths(section: object, *names: str) -> None:
    """Paths may be given as strings; a field holds a path in any case."""
    for name in names:
        if isinstance(value := getattr(section, name), str):
            object.__setattr__(section, name, Path(value))


@dataclass(frozen=True)
class DataConfig:
    """Which images or text the clients learn from."""

    name: str = "digits"
    """"digits" (embedded), "npz" (arrays in the file data_dir), "folder" (images in data_dir/<split>/<class>/ or data_dir/<split>/<client>/<class>/), "text" (a text file, or a folder of .txt files), "jsonl" (a file of JSON lines), "huggingface" (a text set that the library datasets saved to disk, or Parquet files), "huggingface:OWNER/NAME" or "huggingface:OWNER/NAME/CONFIG" (a text set in that library's cache), "tfds_text:NAME" (a TFDS set that holds text, such as "tfds_text:tiny_shakespeare"), or any TFDS image-classification name, such as "cifar10"."""
    data_dir: Path | None = None
    """Folder of the prepared TFDS data sets, or of the images when name is "folder", or the file of the arrays when name is "npz", or the file or folder of the text when name is "text", "jsonl" or "huggingface", or the cache that holds "huggingface:OWNER/NAME"; the default of TFDS or of the library datasets if unset."""
    train_split: str = "train"
    """Split that is dealt out to the clients; of a text (huggingface, tfds_text), whose ends are for the test, the one that is read."""
    test_split: str = "test"
    """Split that every model is evaluated on."""
    train_samples: int | None = None
    """Use only this many training samples, drawn with a fixed seed; all if unset."""
    test_samples: int | None = None
    """Use only this many test samples, drawn with a fixed seed; all if unset."""
    holdout: int | None = None
    """Take this many training samples away from the clients and test on them in place of the test split, to tune without looking at it."""
    cache_dir: Path | None = None
    """Folder of the decoded, memory-mapped copies; if unset, fedhm_jax in $XDG_CACHE_HOME or ~/.cache."""
    client_feature: str | None = None
    """Feature of a TFDS set, or array of an npz file, that says which client a training sample is of (natural partition); if unset, an npz file's array "client", if it has one."""

    window: int = 64
    """Tokens that a sample of a text predicts, each from those before it in the window (any text)."""
    test_share: float = 0.1
    """Share of the end of every client's text, or of every document without clients, that is held out for the test (any text)."""
    tokenizer: str = "characters"
    """What a token of a text is: "characters", "bytes", or the path of a Hugging Face tokenizer.json, which needs pip install "fedhm-jax[text]" (any text)."""
    client_pattern: str | None = None
    """Regular expression: a line that it matches begins a text of the client that its first group names (text); if unset, each file of a folder is a client, and a single file has none."""
    text_field: str = "text"
    """Key of a line's text (jsonl), or column or feature of the texts (huggingface, tfds_text)."""
    client_field: str | None = None
    """Key of a line's client (jsonl), or column or feature of the clients (huggingface, tfds_text); no clients if unset."""

    def __post_init__(self) -> None:
        _as_paths(self, "data_dir", "cache_dir")


@dataclass(frozen=True)
class PartitionConfig:
    """How training samples are dealt out to clients."""

    method: Literal["iid", "dirichlet", "dirichlet_equal", "shards", "quantity", "natural", "given"] = "iid"
    """iid: shuffled, equal sizes. dirichlet: label skew, sizes follow. dirichlet_equal: label skew, equal sizes. shards: few classes a client. quantity: sizes skewed, labels iid. natural: the data's own clients. given: what simulate(partition=...) is handed, from Python only."""
    clients: int | None = None
    """Number of registered clients; if unset 20, and with natural all that have min_samples (fewer are drawn at random)."""
    alpha: float = 0.5
    """Concentration of the Dirichlet draws (dirichlet, dirichlet_equal, quantity); smaller is more skewed."""
    min_samples: int = 16
    """Floor on a client's number of samples (dirichlet, quantity); clients with fewer are left out (natural)."""
    classes_per_client: int = 2
    """Number of label shards a client receives (shards)."""


@dataclass(frozen=True)
class ModelConfig:
    """The full-rank model that the server holds."""

    name: Literal["mlp", "cnn", "resnet8", "resnet20", "resnet18", "resnet34", "vit", "decoder"] = "cnn"
    """Architecture; the ResNets are in their CIFAR form (3x3 stem, no max-pool). vit: transformer on patches of 4x4 pixels. decoder: transformer on text."""
    norm: Literal["none", "group", "batch_static", "batch_test"] | None = None
    """Normalisation. batch_static: batch norm, statistics re-estimated on training data before evaluation. batch_test: statistics of the test batch itself. Unset: batch_static for ResNets, none otherwise; transformers have layer norms and leave it unset."""
    full_rank_blocks: int | None = None
    """Leading residual blocks kept full rank (ResNets only); the paper's hybrid depth if unset: 1 for resnet18, 7 for resnet34, 0 for resnet8 and resnet20."""
    classifier: Literal["whole", "factorized"] = "whole"
    """whole: no tier factorizes the last layer, as the paper has it. factorized: tiers factorize it as any other; with many classes it is most of a weak client's model."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers (mlp only)."""
    width: int = 128
    """Channels of each position, a multiple of heads (vit and decoder only)."""
    depth: int = 4
    """Number of blocks (vit and decoder only)."""
    heads: int = 4
    """Heads of each block's attention (vit and decoder only)."""
    init: Path | None = None
    """Model file (safetensors) of a finished run, as fedhm export writes it, to start from; parameters are drawn from server.seed if unset."""

    def __post_init__(self) -> None:
        _as_paths(self, "init")


@dataclass(frozen=True)
class TiersConfig:
    """Capability tiers: which rank each client can carry."""

    rank_factors: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """One rank factor f per tier, increasing; 1 is the full-rank model, f divides the rank (FedHM's f)."""
    shares: tuple[float, ...] | None = None
    """Share of the clients in each tier, summing to 1; equal shares if unset. Not together with counts."""
    counts: tuple[int, ...] | None = None
    """Number of clients in each tier, summing to the number of clients. Not together with shares."""
    of_client: tuple[int, ...] | None = None
    """Tier of each client by the client's number, 0 for the first of rank_factors; if unset, drawn from server.seed. Not together with shares or counts."""
    assignment: Literal["fixed", "dynamic"] = "fixed"
    """fixed: a client keeps its tier. dynamic: a sampled client draws its tier anew every round, with the tiers' shares."""

    def __post_init__(self) -> None:
        # where tiers are computed they are a list or an array
        given: Any = self.of_client
        given = given.tolist() if hasattr(given, "tolist") else given
        object.__setattr__(self, "of_client", tuple(given) if isinstance(given, list) else given)


@dataclass(frozen=True)
class StrategyConfig:
    """How the server distributes models and merges what comes back."""

    name: Literal[
        "fedhm",
        "fedhm_segments",
        "fedhm_nested",
        "fedhm_factors",
        "fedavg",
        "fedavg_low_rank",
        "heterofl",
        "fedrolex",
        "fjord",
        "splitmix",
        "fiarse",
        "depthfl",
        "flexlora",
        "raflora",
        "fedhm_adapters",
        "hetlora",
        "flora",
        "florist",
    ] = "fedhm_nested"
    """The federated method. fedhm: low-rank clients, the paper's own. fedhm_segments: the same, each rank averaged over the clients that hold it. fedhm_nested: and every client trains the weaker tiers' models inside of its own. fedhm_factors: and the server averages factors, rank by rank, in place of their products. fedavg: every client the full model. fedavg_low_rank: every client the weakest tier's low-rank model. heterofl, fedrolex, fjord: narrower clients. splitmix: clients with fewer base networks. fiarse: clients with the entries of largest magnitude. depthfl: clients with the first stages. flexlora, raflora, fedhm_adapters, hetlora, flora, florist: adapters of unequal rank on a base that stays as it is: products averaged; each rank over the clients that hold it; the same for changes, and the weaker tiers' adapters trained inside of a client's own; factors averaged; products added to the base every round; products averaged, of which a share of the energy is kept."""
    builder: str | None = None
    """Your own method in place of name: a Python file and a function of a Setting in it, such as mine.py:build."""
    weighting: Literal["uniform", "samples", "rank_softmax"] = "uniform"
    """A client's weight in the merge: equal, its sample count, or softmax(-f/temperature) over the cohort."""
    temperature: float = 1.0
    """Temperature T of rank_softmax weights."""
    classifier_rows: Literal["all", "owned"] = "owned"
    """owned: a class's classifier row is averaged over the clients that hold samples of the class. all: over all clients."""
    history: bool = True
    """When no client of the strongest tier was sampled, the old global model joins the merge as one more client, of mean sample count and full rank: its rank_softmax weight is that of f = 1 (fedhm)."""
    decomposition: Literal["auto", "svd", "gram", "subspace"] = "auto"
    """How the server factorizes its kernels (fedhm, fedhm_segments, fedhm_nested; fedhm_factors and fedavg_low_rank at the start). svd: exact. gram: eigenvectors of the Gram matrix, exact but for rounding. subspace: two steps of power iteration from the last round's factors, approximate; svd where there are none. auto: the fastest measured on the backend whose error is rounding alone."""
    nesting: Literal["all", "drawn", "none"] = "all"
    """Which of the models inside of its own a client trains in a step (fedhm_nested, fedhm_factors, fedhm_adapters). all: its own and those of all weaker tiers. drawn: one of these, drawn anew for every step. none: its own alone."""
    widths: tuple[float, ...] | None = None
    """Share of the channels that each tier holds (heterofl, fedrolex, fjord, splitmix), decreasing; if unset, solved so that a client costs what FedHM's client of its tier costs."""
    densities: tuple[float, ...] | None = None
    """Share of the kernels' entries that each tier holds (fiarse), decreasing; if unset, solved so that a client costs what FedHM's client of its tier costs."""
    depths: tuple[int, ...] | None = None
    """Stages of the model that each tier holds (depthfl), at least 1, not increasing; if unset, as many as cost no more than FedHM's client of its tier, and all of them where the rank factor is 1."""
    adapter_ranks: tuple[int, ...] | None = None
    """Rank of each tier's adapters (flexlora, raflora, fedhm_adapters, hetlora, flora, florist), not increasing, of each kernel at most its full rank; if unset, FedHM's rank of the kernel at the tier's rank factor."""
    alpha: float = 16.0
    """Adapters of rank r change a kernel by alpha / r times their product (flexlora, raflora, fedhm_adapters, hetlora, flora, florist)."""
    energy: float = 0.99
    """Share of the squared singular values of the merged adapters that the server keeps (florist)."""
    budget: Literal["parameters", "bytes", "macs"] = "bytes"
    """Which cost the solved widths, densities or depths match: parameters, bytes sent, or multiply-accumulates of a forward pass (not fiarse)."""
    distillation: float = 1.0
    """Weight of the drawn slice's loss against the client's whole model (fjord), or of what the heads teach one another (depthfl)."""


@dataclass(frozen=True)
class LocalConfig:
    """What a client does with the model it receives."""

    optimizer: str = "sgd"
    """Name of an optax optimizer; its state starts afresh every round."""
    learning_rate: float = 0.02
    """Initial learning rate."""
    momentum: float = 0.9
    """Momentum (sgd only)."""
    epochs: int = 5
    """Passes over the client's samples per round."""
    steps: int | None = None
    """Optimizer steps per round; replaces epochs when set."""
    batch_size: int = 16
    """Samples per step."""
    weight_decay: float = 1e-4
    """L2 coefficient c on every parameter, factors included: c * w is added to the gradient."""
    frobenius_decay: float = 1e-4
    """Coefficient c of the decay on factor products: the gradient of c/2 * ||uv||_F^2 is added."""
    proximal: float = 0.0
    """FedProx coefficient mu: mu * (w - w_received) is added to the gradient."""
    clip: float | None = None
    """Longest gradient of a step, in the L2 norm over all parameters of the client's model, with all that is added to it; a longer one is shortened to it. No limit if unset."""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    """Learning rate over rounds. step: multiplied by decay_rate at each of the milestones. cosine: to zero over server.rounds."""
    milestones: tuple[int, ...] = ()
    """Rounds after which the learning rate drops (step schedule)."""
    decay_rate: float = 0.1
    """Factor of each drop (step schedule)."""
    masked_loss: bool = True
    """Set the logits of classes that the client does not hold to zero in the loss (HeteroFL's masked cross-entropy)."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Floating type of the clients' forward and backward passes. Parameters, updates, merging and evaluation stay float32."""
    augmentation: Literal["none", "crop_flip"] = "none"
    """crop_flip: random crop after padding by 4 pixels, and random horizontal flip."""


@dataclass(frozen=True)
class ServerConfig:
    """The rounds the server runs."""

    rounds: int = 30
    """Number of rounds."""
    participation: float = 0.5
    """Share of the registered clients sampled each round."""
    cohort_size: int | None = None
    """Number of clients sampled each round; replaces participation when set."""
    optimizer: Literal["sgd", "momentum", "adam", "yogi", "adagrad"] = "sgd"
    """How the server's model follows the merged change, taken as a gradient. sgd: by learning_rate times the change; at rate 1 to the merged model itself. momentum: FedAvgM. adam, yogi, adagrad: FedAdam, FedYogi, FedAdagrad as published, without bias correction."""
    learning_rate: float = 1.0
    """Rate of the server's optimizer. For adam, yogi and adagrad it is about the longest step of a parameter in a round: 0.01 is a start."""
    momentum: float = 0.9
    """Momentum of the server's optimizer (momentum), or decay beta_1 of its first moment (adam, yogi, adagrad)."""
    second_moment: float = 0.99
    """Decay beta_2 of the second moment of the server's optimizer (adam, yogi)."""
    epsilon: float = 1e-3
    """Added to the root of the second moment of the server's optimizer (adam, yogi, adagrad), in units of a parameter; smaller adapts more."""
    seed: int = 0
    """Seed of the run: partition, tiers, initial model, cohorts and batches all follow from it."""
    convolution: Literal["auto", "gemm", "canonical", "lax"] = "auto"
    """How convolutions are computed (same result): gemm: shifted slices and one matrix product. canonical: lax in the layout and with the gradients that are fast on a CPU. lax: plain lax. auto: the fastest measured on the backend."""
    devices: int | None = None
    """Devices that the clients of a round are spread over; each core of a CPU is one. If unset: all there are, of a CPU at most 8 and no more than clients in a round. Results on 1 to 8 of a CPU's agree to a few units of rounding."""
    samples: Literal["replicated", "sharded"] = "replicated"
    """Where the training samples are. replicated: all of them on every device, and the clients of a round in equal shares. sharded: on each device those of its own clients, which it trains whenever they are drawn; for more samples than a device has room for. Results agree to rounding."""
    clients_per_chunk: int | None = None
    """Clients trained side by side in one batched program; memory grows with it. If unset: 1 on a CPU, and elsewhere 16, halved until a round fits into memory."""


@dataclass(frozen=True)
class AggregationConfig:
    """Which updates the server accepts, and how it merges them. An update is what a client changed, as it enters the merge: a low-rank kernel's factors are multiplied out, so that updates of all tiers compare."""

    merge: Literal["mean", "median", "trimmed_mean"] = "mean"
    """mean: the strategy's own weighted mean. median, trimmed_mean: by coordinate, over all clients that trained it, each counting once; for strategies whose clients all contribute in the server's shapes (fedhm, fedavg, fedavg_low_rank, splitmix, fiarse). Both hold the updates of a whole cohort in memory."""
    trim: float = 0.1
    """Share of the clients whose values are cut off at each end (trimmed_mean), rounded down to whole clients."""
    clip: float | None = None
    """Longest update in the L2 norm over all parameters; a longer one is shortened to it. No limit if unset."""
    reject: float | None = None
    """Clients whose update is longer than this L2 norm are left out, as those with an update that is not finite always are. No limit if unset."""


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of whole clients towards everybody but the server (central DP): clipped updates, Gaussian noise on their sum."""

    noise_multiplier: float | None = None
    """Standard deviation of the noise on the sum of updates, in units of aggregation.clip; no noise and no guarantee if unset."""
    delta: float | None = None
    """The delta of the reported (epsilon, delta); if unset, the number of clients ** -1.1."""


@dataclass(frozen=True)
class DevicesConfig:
    """The clients' devices, for simulated time and failures; each of the first four is one value for all tiers, or one per tier."""

    flops: tuple[float, ...] = (1e10,)
    """Sustained compute in FLOP/s."""
    download: tuple[float, ...] = (2.5e6,)
    """Bandwidth from the server in bytes/s."""
    upload: tuple[float, ...] = (1.25e6,)
    """Bandwidth to the server in bytes/s."""
    latency: tuple[float, ...] = (0.05,)
    """Seconds before a transfer begins, each way."""
    deadline: float | None = None
    """Simulated seconds after which a round ends without the clients that are not done; none if unset."""
    dropout: float = 0.0
    """Probability that a sampled client receives the model and is not heard of again that round."""


@dataclass(frozen=True)
class EvaluationConfig:
    """When and how the global model and every tier's truncated model are tested."""

    every: int = 1
    """Evaluate after every this many rounds, and after the last."""
    batch_size: int = 500
    """Test samples per batch."""
    statistics_samples: int = 2000
    """Training samples used to re-estimate batch-norm statistics before evaluation (batch_static)."""
    worst_client: bool = False
    """Also record the lowest accuracy of a client on its own share of the test set: the test set in the mix of classes that the client trains on, judged by the model of its tier."""
    spectral_norms: bool = False
    """Also record the largest spectral norm among the factorized kernels of every tier's model: that of the product u v, which grows before low-rank training goes astray."""


@dataclass(frozen=True)
class OutputConfig:
    """What a run leaves behind."""

    folder: Path | None = None
    """New folder for records, figures and config. Unset: the command line picks runs/<strategy>-<data>-<time>, Python writes nothing."""
    progress: bool = False
    """Show a progress bar and tables (the command line turns this on)."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Viewers that get every record too, their files in the folder: tensorboard, wandb (Weights & Biases), mlflow; they need pip install "fedhm-jax[trackers]"."""
    compilation_cache: bool = True
    """Keep compiled programs in $XDG_CACHE_HOME/fedhm_jax/programs, or ~/.cache/fedhm_jax/programs, so that a run of the same shapes starts from them; a jax_compilation_cache_dir of your own takes their place."""

    def __post_init__(self) -> None:
        _as_paths(self, "folder")


@dataclass(frozen=True)
class CheckpointConfig:
    """Copies of an unfinished run in <output.folder>/checkpoints, to go on from after an interruption; none without a folder."""

    every: int | None = None
    """Write one after every this many rounds; if unset, as often as takes 1 % of the time. One is written after the first and the last round in any case."""
    keep: int = 3
    """How many of the latest stay on disk."""


@dataclass(frozen=True)
class SimulationConfig:
    """A whole simulation: data, partition, model, tiers, strategy, local training, aggregation, privacy, server, devices,
    evaluation, output and checkpoints.

    Example:
        >>> config = SimulationConfig(server=ServerConfig(rounds=10))
        >>> config.server.rounds, config.tiers.rank_factors
        (10, (1.0, 2.0, 4.0, 8.0))
    """

    data: DataConfig = field(default_factory=DataConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    tiers: TiersConfig = field(default_factory=TiersConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    devices: DevicesConfig = field(default_factory=DevicesConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
