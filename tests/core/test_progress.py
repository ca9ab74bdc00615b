from __future__ import annotations

import io
from typing import Any

import pytest

from nexus.core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def screen(text: str) -> list[str]:
    """Return the lines a terminal shows after `text`."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_a_terminal_shows_one_line() -> None:
    """Count, rate and time left are redrawn in place; the end says how long it took."""
    stream, clock = Terminal(), Clock()
    with Progress(10, label="track", stream=stream, clock=clock) as progress:
        for _ in range(4):
            clock.now_s += 0.5
            progress.advance()
        assert screen(stream.getvalue()) == ["track: 4/10 frames  2 frames/s  ETA 3.0 s"]

    assert screen(stream.getvalue()) == ["track: 4 of 10 frames in 2.0 s, 2 frames/s", ""]


def test_a_terminal_is_not_flooded() -> None:
    """Steps faster than the eye are not all drawn."""
    stream, clock = Terminal(), Clock()
    with Progress(1000, stream=stream, clock=clock) as progress:
        for _ in range(1000):
            clock.now_s += 0.001
            progress.advance()
        drawn = stream.getvalue().count("\r")

    assert 5 <= drawn <= 10


def test_a_log_gets_a_line_now_and_then() -> None:
    """What is no terminal gets a whole line every ten seconds, without control characters."""
    stream, clock = io.StringIO(), Clock()
    with Progress(100, label="track", stream=stream, clock=clock) as progress:
        for _ in range(25):
            clock.now_s += 1
            progress.advance()

    assert stream.getvalue().splitlines() == [
        "track: 10/100 frames  1 frames/s  ETA 1:30",
        "track: 20/100 frames  1 frames/s  ETA 1:20",
        "track: 25 of 100 frames in 0:25, 1 frames/s",
    ]


def test_the_rate_is_that_of_the_last_steps() -> None:
    """A slow first step does not spoil the estimate."""
    stream, clock = Terminal(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    clock.now_s += 600
    progress.advance()
    for _ in range(40):
        clock.now_s += 0.1
        progress.advance()

    assert "  10 frames/s  " in screen(stream.getvalue())[-1]


def shown_eta(gaps_s: list[float], total: int = 1000, **options: Any) -> str:
    """Return the time that is left as shown after steps so far apart; "" where none is shown."""
    stream, clock = Terminal(), Clock()
    progress = Progress(total, stream=stream, clock=clock, **options)
    for gap_s in gaps_s:
        clock.now_s += gap_s
        progress.advance()
    clock.now_s += 1
    progress.say("")
    return screen(stream.getvalue())[-1].partition("ETA ")[2]


def test_the_first_step_is_no_measure_of_the_others() -> None:
    """A slow start is never taken for the pace: nothing is said before the third step."""
    assert shown_eta([600]) == ""
    assert shown_eta([600, 0.5]) == ""
    assert shown_eta([600, 0.5, 0.5]) == "8:18"
    assert shown_eta([600, 0.5, 0.5], total=3) == "0.0 s"


@pytest.mark.parametrize("before", [1, 2, 10, 200])
def test_a_pause_is_not_taken_for_work(before: int) -> None:
    """Hours in which the process stood still do not become hours that are left."""
    gaps = [0.5] * before + [36000.0] + [0.5] * 5
    minutes, _, _ = shown_eta(gaps).partition(":")

    assert 5 <= int(minutes) <= 30


def test_a_resumed_run_is_measured_by_its_own_steps() -> None:
    """What was done earlier took no time here, and what is left is told by the steps of now."""
    assert shown_eta([60, 2, 2, 2], total=100, done=80) == "0:32"


def test_steps_that_come_together_are_measured_together() -> None:
    """Four workers bring four results at once every ten seconds: no step takes no time."""
    gaps = [12, 0, 0, 0] + [10, 0, 0, 0] * 3

    assert shown_eta(gaps, total=36, at_once=4) == "0:50"
    assert shown_eta(gaps[:-4] + [3600.0, 0, 0, 0], total=36, at_once=4) == "3:20"


def test_steps_too_fast_for_the_clock_have_no_rate() -> None:
    """Where no time passes nothing is divided by it."""
    assert shown_eta([0] * 10) == ""
    assert shown_eta([0] * 10 + [4]) == "6:36"


def test_an_unknown_total_has_no_end() -> None:
    """A camera shows count and rate, no time left."""
    stream, clock = io.StringIO(), Clock()
    with Progress(None, stream=stream, clock=clock) as progress:
        for _ in range(4):
            clock.now_s += 1000
            progress.advance(250_000)

    assert stream.getvalue().splitlines() == [
        "250000 frames",
        "500000 frames",
        "750000 frames  250 frames/s",
        "1000000 frames  250 frames/s",
        "1000000 frames in 1:06:40, 250 frames/s",
    ]


def test_frames_done_earlier_are_counted_apart() -> None:
    """A resumed run shows the whole count, and a rate of its own frames only."""
    stream, clock = io.StringIO(), Clock()
    with Progress(100, done=90, stream=stream, clock=clock) as progress:
        clock.now_s += 20
        progress.advance(10)

    assert stream.getvalue().splitlines() == [
        "100/100 frames",
        "100 frames (90 of them earlier) in 0:20, 0.5 frames/s",
    ]


def test_a_message_stands_above_the_line() -> None:
    """A message in the middle is a line of its own, and the progress line goes on below it."""
    stream, clock = Terminal(), Clock()
    progress = Progress(10, stream=stream, clock=clock)
    clock.now_s += 1
    progress.advance()
    progress.say("note: x")

    assert screen(stream.getvalue()) == ["note: x", "1/10 frames"]


def test_a_run_without_steps_says_nothing() -> None:
    """Nothing done is nothing said, and closing twice says nothing twice."""
    stream = Terminal()
    progress = Progress(10, stream=stream)
    progress.close()
    progress.close()

    assert stream.getvalue() == ""


def test_long_lines_do_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a narrow terminal the line is cut, or it could not be redrawn in place."""
    monkeypatch.setenv("COLUMNS", "20")
    stream, clock = Terminal(), Clock()
    progress = Progress(10, label="a long label", stream=stream, clock=clock)
    clock.now_s += 1
    progress.advance()

    assert stream.getvalue() == "\ra long label: 1/10 "


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress goes to stderr and leaves stdout to results."""
    clock = Clock()
    with Progress(1, clock=clock) as progress:
        clock.now_s += 1
        progress.advance()
    output = capsys.readouterr()

    assert output.out == ""
    assert output.err == "1 frame in 1.0 s, 1 frames/s\n"
