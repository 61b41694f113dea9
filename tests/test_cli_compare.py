"""``fedhm compare``: a study from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedhm_jax.cli import main

STUDY = """
name = "Tiny"
strategies = ["fedavg"]
seeds = [0]
[base.data]
train_samples = 120
test_samples = 30
[base.model]
name = "mlp"
hidden = [8]
[base.partition]
clients = 4
[base.local]
batch_size = 8
epochs = 1
[base.server]
rounds = 1
[base.tiers]
rank_factors = [1.0, 2.0]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(STUDY)
    return tmp_path / "tiny.toml"


def test_a_study_leaves_its_report_and_goes_on_when_started_again(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(study)]) == 0
    first = capsys.readouterr()
    assert "1 round to run" in first.err
    assert "default: test accuracy after the last round [%]" in first.out
    assert "Report: runs/tiny/report.html" in first.out
    assert Path("runs/tiny/report.html").read_text().startswith("<!doctype html>")
    assert main(["compare", str(study)]) == 0
    again = capsys.readouterr()
    assert "0 rounds to run" in again.err
    assert again.out == first.out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("fedavg", "fedsgd"), "strategies is ('fedsgd',), but must be a list of names among fedhm"),
        (("rounds = 1", "rounds = 0"), "default, fedavg: server.rounds is 0, but must be an integer of at least 1"),
        (("seeds", "seds"), "seds is no key of a study; there are base,"),
        (("[base.tiers]", "[base.tiers"), "but must be TOML in UTF-8"),
    ],
)
def test_bad_studies_exit_with_2_and_one_sentence(
    study: Path, change: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study.write_text(STUDY.replace(*change))
    assert main(["compare", str(study)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedhm: error: ")
    assert error.count("\n") == 1
    assert sentence in error
    assert not Path("runs").exists()


def test_an_unknown_study_is_answered_before_any_slow_import(tmp_path: Path) -> None:
    program = (
        "import sys; from fedhm_jax.cli import main; code = main(['compare', 'nowhere.toml'])\n"
        "print(code, *sorted({'jax', 'flax', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout == "2\n"
    assert run.stderr == (
        "fedhm: error: study is 'nowhere.toml', but must be a readable file (No such file or directory)\n"
    )


def test_an_interrupted_study_says_how_to_go_on(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedhm_jax.comparison.compare", interrupt)
    assert main(["compare", str(study)]) == 130
    kept = "what was done is kept in runs/tiny; the same command goes on from there"
    assert capsys.readouterr().err == f"\nfedhm: interrupted; {kept}\n"


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("TOML file of the study", "Where runs and report go", "Folder of the prepared TFDS data sets"):
        assert words in text
