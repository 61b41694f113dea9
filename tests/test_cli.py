"""The command line: exit codes, messages, and what reaches the simulation."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedhm_jax.cli import main
from fedhm_jax.config.config_file import write_config
from fedhm_jax.config.schema import LocalConfig, OutputConfig, SimulationConfig, TiersConfig
from fedhm_jax.errors import ConfigError, Interrupted
from fedhm_jax.files import WriteError
from fedhm_jax.results import SimulationResult, TierCost

Simulate = Callable[[SimulationConfig, Path | None], SimulationResult]


def finished(config: SimulationConfig) -> SimulationResult:
    """A run of one round that took no time."""
    record = {
        "round": 1,
        "seconds": 0.5,
        "learning_rate": 0.1,
        "clients": {"f1": 1},
        "train_loss": {"f1": 1.5},
        "bytes_down": {"f1": 2048},
        "bytes_up": {"f1": 2048},
        "macs": {"f1": 3_000_000},
        "total_bytes_down": 2048,
        "total_bytes_up": 2048,
        "total_macs": 3_000_000,
        "accuracy": {"global": 0.8125, "f1": 0.75},
        "top5": {"global": 1.0, "f1": 1.0},
        "loss": {"global": 0.4, "f1": 0.6},
    }
    costs = [TierCost("f1", 1.0, "full model", 20, 512, 30_000, 30_000, 2048, 2048)]
    return SimulationResult(config, [record], record, costs, {}, config.output.folder)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[SimulationConfig]:
    """Replaces the simulation by one that only notes the configs it is given."""
    configs: list[SimulationConfig] = []

    def simulate(config: SimulationConfig, resume: Path | None = None) -> SimulationResult:
        configs.append(config)
        return finished(config)

    monkeypatch.setattr("fedhm_jax.run.simulate", simulate)
    return configs


def test_flags_override_the_file_which_overrides_the_defaults(simulated: list, tmp_path: Path) -> None:
    in_file = SimulationConfig(
        local=LocalConfig(epochs=7, momentum=0.25, schedule="step", milestones=(2, 4)),
        tiers=TiersConfig(rank_factors=(1.0, 3.0), shares=(0.25, 0.75)),
        output=OutputConfig(progress=True),
    )
    write_config(in_file, tmp_path / "run.toml")
    flags = ["--local.epochs", "2", "--tiers.rank-factors", "2", "4", "--strategy.no-history"]
    folder = tmp_path / "run"
    assert main(["simulate", "--config", str(tmp_path / "run.toml"), *flags, "--output.folder", str(folder)]) == 0
    (config,) = simulated
    assert (config.local.epochs, config.local.momentum, config.local.milestones) == (2, 0.25, (2, 4))
    assert (config.tiers.rank_factors, config.tiers.shares) == ((2.0, 4.0), (0.25, 0.75))
    assert config.strategy.history is False
    assert config.output == OutputConfig(folder=folder, progress=True)


def test_the_command_line_shows_progress_and_picks_a_folder(
    simulated: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rounds.toml").write_text("[server]\nrounds = 3\n")
    assert main(["simulate"]) == 0
    assert main(["simulate", "--config=rounds.toml", "--data.name", "cifar10_corrupted/fog:1.0"]) == 0
    assert main(["simulate", "--output.no-progress"]) == 0
    plain, named, quiet = simulated
    assert (plain.output.progress, named.output.progress, quiet.output.progress) == (True, True, False)
    assert re.fullmatch(r"runs/fedhm_nested-digits-\d{8}-\d{6}", str(plain.output.folder))
    assert re.fullmatch(r"runs/fedhm_nested-cifar10_corrupted-fog-1.0-\d{8}-\d{6}", str(named.output.folder))
    assert named.server.rounds == 3


def test_without_progress_the_tables_and_the_folder_are_still_printed(
    simulated: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["simulate", "--output.no-progress", "--output.folder", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "81.25" in printed, "global accuracy in percent"
    assert "2.00 KiB" in printed, "bytes down"
    assert f"Written to {folder}\n" in printed


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--local.epochs 0", "local.epochs is 0, but must be an integer of at least 1"),
        ("--server.participation nan", "server.participation is nan, but must be a finite number"),
        ("--tiers.shares 0.5 0.4", "tiers.shares is (0.5, 0.4), but must be numbers of at least 0 that sum to 1"),
        (
            "--config missing.toml",
            "config file is 'missing.toml', but must be a readable file (No such file or directory)",
        ),
        ("--output.folder .", "output.folder is '.', but must be a folder that does not exist yet"),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(
    flags: str, sentence: str, simulated: list, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *flags.split()]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"fedhm: error: {sentence}\n")
    assert simulated == []


def test_a_mistake_found_while_simulating_is_reported_the_same_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def simulate(config: SimulationConfig, resume: Path | None = None) -> SimulationResult:
        raise ConfigError.of("local.optimizer", config.local.optimizer, "an optax optimizer")

    monkeypatch.setattr("fedhm_jax.run.simulate", simulate)
    assert main(["simulate", "--local.optimizer", "sdg"]) == 2
    assert capsys.readouterr().err == "fedhm: error: local.optimizer is 'sdg', but must be an optax optimizer\n"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        ([], "command"),
        (["train"], "'train'"),
        (["simulate", "--local.epochs", "two"], "--local.epochs"),
        (["simulate", "--model.name", "vgg"], "resnet18"),
        (["simulate", "--config"], "--config"),
    ],
)
def test_bad_flags_exit_with_2(argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ("--local.lr 0.1", "--local.lr is no option of fedhm simulate; did you mean --local.learning-rate?"),
        (
            "--lr=0.1",
            "--lr is no option of fedhm simulate; did you mean --local.learning-rate or --server.learning-rate?",
        ),
        ("--local.epoch 1", "--local.epoch is no option of fedhm simulate; did you mean --local.epochs?"),
        ("--rounds 3", "--rounds is no option of fedhm simulate; did you mean --server.rounds?"),
        ("--clients 3", "--clients is no option of fedhm simulate; did you mean --partition.clients?"),
        ("--model vit", "--model is no option of fedhm simulate; did you mean --model.name?"),
        ("--resum a", "--resum is no option of fedhm simulate; did you mean --resume?"),
        ("--zzz 1", "--zzz is no option of fedhm simulate; fedhm simulate --help lists them"),
        ("--local.epochs 1 2", "'2' belongs to no option of fedhm simulate; options are --name value"),
    ],
)
def test_a_wrong_option_names_the_right_one(flags: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *flags.split()]) == 2
    assert capsys.readouterr().err == f"fedhm: error: {hint}\n"


def test_help_explains_every_field_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--help"])
    assert stopped.value.code == 0
    text = " ".join(line.strip("│ ") for line in capsys.readouterr().out.splitlines())
    for section, part in vars(SimulationConfig()).items():
        for name in vars(part):
            flag = f"--{section}.{name.replace('_', '-')}"
            found = re.search(rf"{flag}(?:, --\S+)? (.*?) \(default: ", text)
            assert found, flag
            assert len(found[1]) > 15, f"{flag} is not explained"
            assert "--" not in found[1], f"{flag} has no explanation of its own"
    assert "Passes over the client's samples per round. (default: 5)" in text
    assert "--config FILE" in text


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert re.fullmatch(r"fedhm \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("begun", [True, False])
def test_an_interruption_exits_with_130_and_says_what_was_kept(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def simulate(config: SimulationConfig, resume: Path | None = None) -> SimulationResult:
        if begun:
            folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("fedhm_jax.run.simulate", simulate)
    assert main(["simulate", "--output.folder", str(folder)]) == 130
    kept = f"the records so far are in {folder}" if begun else "no round was finished"
    assert capsys.readouterr().err == f"\nfedhm: interrupted; {kept}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my run"
    (folder / "checkpoints").mkdir(parents=True)

    def simulate(config: SimulationConfig, resume: Path | None = None) -> SimulationResult:
        raise Interrupted(folder, 7, number)

    monkeypatch.setattr("fedhm_jax.run.simulate", simulate)
    assert main(["simulate", "--output.folder", str(tmp_path / "new")]) == code
    command = f"fedhm simulate --resume '{folder}'"
    assert capsys.readouterr().err == f"\nfedhm: interrupted; stopped after round 7; to go on: {command}\n"


def test_a_full_disk_is_one_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def simulate(config: SimulationConfig, resume: Path | None = None) -> SimulationResult:
        (folder / "checkpoints").mkdir(parents=True)
        raise WriteError.of("the record of round 3", folder, OSError(28, "No space left on device"))

    monkeypatch.setattr("fedhm_jax.run.simulate", simulate)
    assert main(["simulate", "--output.folder", str(folder)]) == 1
    assert capsys.readouterr().err == (
        f"fedhm: error: the record of round 3 could not be written to '{folder}' (No space left on device); "
        f"to go on: fedhm simulate --resume {folder}\n"
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--help"], "0"),
        (["--version"], "0"),
        (["simulate", "--help"], "0 tyro"),
        (["compare", "--help"], "0 tyro"),
        (["simulate", "--local.epochs", "0"], "2 tyro"),
    ],
)
def test_help_and_mistakes_are_answered_before_any_slow_import(argv: list[str], expected: str) -> None:
    program = (
        "import sys; from fedhm_jax.cli import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "slow = {'jax', 'flax', 'optax', 'matplotlib', 'numpy', 'rich', 'tensorflow_datasets', 'tyro'}\n"
        "print(code, *sorted(slow & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == expected


def test_the_module_runs_as_a_program_and_passes_the_exit_code_on() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fedhm_jax", "simulate", "--server.rounds", "0"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr == "fedhm: error: server.rounds is 0, but must be an integer of at least 1\n"
