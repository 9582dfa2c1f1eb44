"""Lines where there is no terminal, a bar where there is one."""

import io
import threading

import pytest

from raytrain.telemetry.console import Console, is_interactive
from raytrain_core.text import duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_line_every_few_seconds_and_the_last_one() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(stream=stream, interactive=False, interval=5, clock=clock)
    console.phase("Training")
    for step in range(101):
        clock.now = step * 0.5
        console.update(step, 100, f"loss {100 - step}")
    lines = stream.getvalue().splitlines()
    assert lines[:3] == [
        "Training ...",
        "Training: 0/100 (0%), loss 100",
        "Training: 10/100 (10%), 45 s left, loss 90",
    ]
    assert lines[-1] == "Training: 100/100 (100%), loss 0"
    assert len(lines) == 12


def test_the_time_that_is_left_counts_from_where_a_resumed_phase_began() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(stream=stream, interactive=False, interval=0, clock=clock)
    console.phase("Training")
    console.update(80, 100)
    clock.now = 10.0
    console.update(90, 100)
    assert stream.getvalue().splitlines()[-1] == "Training: 90/100 (90%), 10 s left"


def test_unknown_totals_lines_and_warnings() -> None:
    stream = io.StringIO()
    with Console(stream=stream, interactive=False, interval=0) as console:
        console.phase("Preparing")
        console.update(1500, None, "rows")
        console.update(1500, None, "rows")
        console.line("something")
        console.warning("careful")
    assert stream.getvalue().splitlines() == [
        "Preparing ...",
        "Preparing: 1,500, rows",
        "something",
        "warning: careful",
    ]


def test_a_bar_on_a_terminal_keeps_lines_and_takes_no_markup() -> None:
    stream = io.StringIO()
    with Console(stream=stream, interactive=True) as console:
        console.phase("Training [bold]")
        console.update(1, 4, "loss [red]3")
        console.line("checkpoint [/] written")
        console.update(4, 4, "loss [red]2")
        console.phase("Scoring")
        console.update(1, None)
    text = stream.getvalue()
    for expected in ("Training [bold]", "4/4", "loss [red]2", "checkpoint [/] written", "Scoring"):
        assert expected in text


def test_no_colour_when_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    with Console(stream=stream, interactive=True) as console:
        console.phase("Training")
        console.update(1, 4)
    assert "\x1b[3" not in stream.getvalue().replace("\x1b[?25", "")


def test_several_threads_write_whole_lines() -> None:
    stream = io.StringIO()
    console = Console(stream=stream, interactive=False, interval=0)
    console.phase("Training")
    threads = [threading.Thread(target=lambda: [console.line("x" * 50) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.getvalue().splitlines()[1:] == ["x" * 50] * 200


def test_nobody_listening_ends_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    console = Console(stream=Gone(), interactive=False)
    console.phase("Training")
    console.update(1, 2)
    console.line("still here")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (274000, "3 d 4 h"), (-3, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_file_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    assert not is_interactive(io.StringIO())
    assert is_interactive(Terminal())
    monkeypatch.setenv("CI", "1")
    assert not is_interactive(Terminal())
