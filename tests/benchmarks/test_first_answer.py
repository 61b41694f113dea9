"""Every command of the benchmark of first answers runs."""

import pytest

from benchmarks import first_answer


@pytest.mark.long
def test_every_command_answers(monkeypatch):
    monkeypatch.setattr(first_answer, "DEFAULT_RUN", (first_answer.CLI, "--version"))
    answers = first_answer.measure(turns=2)
    assert len(answers) == 2 * (len(first_answer.COMMANDS) + 2)
    assert all(answer.seconds > 0 for answer in answers)
