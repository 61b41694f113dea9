"""Signals between rounds, and what they did before."""

import signal
import threading
import time

import pytest

from fedhm_jax.run.interruption import stop_signals, wait


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_are_back(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = handlers()
    with stop_signals(announce=True) as stopping:
        assert stopping() is None
        assert handlers() != before
        signal.raise_signal(number)
        assert stopping() == number
        assert handlers() == before
    assert handlers() == before
    assert capfd.readouterr().err == (
        "\nfedhm: stopping after this round, with a checkpoint; once more stops at once\n"
    )


def test_the_second_does_what_it_always_did(capfd: pytest.CaptureFixture[str]) -> None:
    with stop_signals(announce=False):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == ""


def test_the_handlers_are_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(ZeroDivisionError), stop_signals(announce=False):
        raise ZeroDivisionError
    assert handlers() == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_signals(announce=False) as stopping:
            signal.raise_signal(signal.SIGINT)
            assert stopping() is None
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_set_no_handlers() -> None:
    seen: list[object] = []

    def run() -> None:
        with stop_signals(announce=True) as stopping:
            seen.extend([stopping(), *handlers()])

    before = handlers()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None, *before]


def test_a_wait_is_over_when_what_it_waits_for_is_or_fails() -> None:
    done: list[float] = []

    def work() -> None:
        time.sleep(0.05)
        done.append(time.monotonic())

    wait(work)
    assert done[0] <= time.monotonic()
    wait(lambda: 1 / 0)


def test_a_signal_is_seen_during_a_wait() -> None:
    released = threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        wait(released.wait)
    released.set()
