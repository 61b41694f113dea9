"""No config ends in anything but a run or one sentence, and the search for one that does would find it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import hypothesis
import jax
import pytest

from benchmarks import fuzz
from benchmarks.fuzz import build_report
from benchmarks.fuzz_cases import Case, Outcome, cases, changes_of, outcome_of, run_case, simplest
from benchmarks.fuzz_configs import BASE, FIELDS, _of_type, configs
from benchmarks.fuzz_studies import outcomes
from fedhm_jax import AggregationConfig, DataConfig, LocalConfig, StrategyConfig
from fedhm_jax.config import validation
from fedhm_jax.config.validation import check_config

many = hypothesis.settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


def drawn():
    """Three hundred configs. Hypothesis also draws constants of the modules that are loaded, so they may vary."""
    found = []
    many(hypothesis.given(configs(Path("scratch")))(lambda config: found.append(config)))()
    return found


@pytest.mark.long
def test_any_config_runs_or_is_refused(tmp_path):
    done = []
    # As users have it: some of optax's optimizers mix types.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        cases(15, 14, tmp_path / "scratch", lambda case, _: done.append(case) if isinstance(case, Case) else None)
    assert [case for case in done if case.outcome.kind == "failed"] == []
    assert sum(case.outcome.kind == "ran" for case in done) >= 2
    assert sum(case.outcome.kind == "refused" for case in done) >= 5


def test_checking_any_config_raises_nothing_but_a_sentence_about_a_field():
    outcomes = [outcome_of(lambda config=config: check_config(config)) for config in drawn()]
    assert {outcome.kind for outcome in outcomes} == {"ran", "refused"}, outcomes


@pytest.mark.long
def test_any_study_is_planned_or_refused():
    found = outcomes(300, 5)
    assert [(study, outcome.sentence) for study, outcome in found if outcome.kind == "failed"] == []
    kinds = [outcome.kind for _, outcome in found]
    assert min(kinds.count("planned"), kinds.count("refused")) >= 40


def test_a_fault_planted_in_the_planning_of_studies_is_found(monkeypatch):
    monkeypatch.setattr("fedhm_jax.comparison.study_file.check_study", lambda study: None)
    assert "failed" in {outcome.kind for _, outcome in outcomes(60, 5)}


def test_every_field_is_drawn():
    different = {field.path for config in drawn() for field in FIELDS if repr(field.of(config)) != repr(field.of(BASE))}
    assert different == {field.path for field in FIELDS}


def test_a_new_field_is_drawn_from_its_type():
    values = set()
    annotation = Literal["a", "b"] | None | tuple[float, ...]
    many(hypothesis.given(_of_type(annotation))(lambda value: values.add(value)))()
    assert {"a", "b", None, ()} < values
    assert any(isinstance(value, tuple) and value and isinstance(value[0], float) for value in values)


def test_a_planted_fault_is_found_and_brought_back_to_one_field(monkeypatch):
    monkeypatch.setattr(validation, "check_types", lambda config: None)

    def check(config):
        return outcome_of(lambda: check_config(config))

    failing = [(config, outcome) for config in drawn() if (outcome := check(config)).kind == "failed"]
    assert failing
    for config, outcome in failing[:5]:
        assert outcome.where.startswith(("rules.py", "relations.py"))
        assert len(changes_of(simplest(config, outcome, check)).split(", ")) <= 2


def test_an_error_behind_the_checks_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(validation, "RULES", ())
    outcome = run_case(replace(BASE, local=LocalConfig(batch_size=0)), tmp_path / "scratch")
    assert (outcome.kind, outcome.field) == ("failed", "ZeroDivisionError")


@pytest.mark.long
def test_whole_numbers_beyond_32_bits_pass_for_floats(tmp_path):
    large = {"weight_decay": 2**40, "proximal": 2**40, "frobenius_decay": 2**40, "learning_rate": 1}
    limits = AggregationConfig(clip=2**40, reject=2**40)
    config = replace(BASE, local=replace(BASE.local, **large), aggregation=limits)
    assert run_case(config, tmp_path / "scratch").kind in ("ran", "diverged")
    distilled = StrategyConfig(name="fjord", widths=(1.0, 0.5), distillation=2**40)
    assert run_case(replace(BASE, strategy=distilled), tmp_path / "scratch").kind in ("ran", "diverged")


def test_an_unknown_data_set_is_refused(tmp_path):
    outcome = run_case(replace(BASE, data=DataConfig(name="no such set")), tmp_path / "scratch")
    assert (outcome.kind, outcome.field) == ("refused", "data.name")


def dies_at_first(count, seed, home, channel):
    """In place of the work of a process: the one with the first seed is lost in its second case."""
    for number in range(1, count + 1):
        channel.send((number, "local.steps=1"))
        if seed == 0 and number == 2:
            os._exit(3)
        channel.send((Case(number, Outcome("ran"), ""), ""))


@pytest.mark.long
def test_a_process_that_dies_is_a_failure_and_is_replaced(monkeypatch):
    monkeypatch.setattr(fuzz, "_work", dies_at_first)
    done = fuzz._all_cases(4, seed=0, processes=1)
    assert [case.outcome.kind for case in done] == ["ran", "failed", "ran", "ran"]
    assert done[1] == Case(2, Outcome("failed", "process", "died, exit code 3"), "local.steps=1")


def test_the_report_counts_outcomes_and_lists_failures():
    done = [
        Case(1, Outcome("ran"), ""),
        Case(2, Outcome("refused", "local.epochs", "local.epochs is 0"), "local.epochs=0"),
        Case(3, Outcome("ran"), ""),
        Case(4, Outcome("failed", "TypeError", "bad", "a.py, step"), "local.steps=3, data.name='a'", "local.steps=3"),
    ]
    outcomes, refused, failed = build_report(done, "command").tables
    assert outcomes.rows == [("ran", "2", "50.0 %"), ("refused", "1", "25.0 %"), ("failed", "1", "25.0 %")]
    assert refused.rows == [("local.epochs", "1", "25.0 %")]
    assert failed.rows == [("TypeError: bad (a.py, step)", "local.steps=3, data.name='a'", "local.steps=3")]
