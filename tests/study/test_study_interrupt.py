import signal

import pytest

from blueberry.study.ray_workers import held_back
from blueberry.study.workers import Interrupt


def test_the_first_signal_is_a_wish_and_the_second_raises() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_held_back_comes_when_it_is_over(number: int) -> None:
    done = []

    def end() -> None:
        with held_back():
            signal.raise_signal(number)
            done.append("the end")

    with Interrupt():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            end()
    assert done == ["the end"]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with held_back():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
