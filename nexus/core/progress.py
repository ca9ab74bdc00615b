"""Show how far a long run is: frames done, frames per second and the time that is left."""

from __future__ import annotations

import itertools
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from statistics import median_low
from typing import TextIO

from nexus.core.log import is_quiet
from nexus.core.words import singular

_TERMINAL_INTERVAL_S = 0.1
_LOG_INTERVAL_S = 10.0
_WINDOW = 30
_FIRST_ESTIMATE = 2  # steps to go by before anything is said of the time that is left
_LONGEST_STEP = 10  # times the usual one; what is longer was a pause


class Progress:
    """One line on stderr: redrawn in place on a terminal, repeated now and then in a log.

    The time that is left goes by the last 30 steps alone: the first one, which a slow start is part
    of, is no measure of the others, and a pause (a suspended process, a sleeping machine) counts as
    ten usual steps. Nothing is said of it before the third step. Results belong on stdout and never
    pass through here.

    Args:
        total: Steps of the whole run; None where it is not known, as for a camera.
        label: Word at the start of the line.
        unit: What one step is, in the plural.
        done: Steps that an earlier run has already done; not counted into the rate.
        at_once: Steps that are worked on side by side and come together; so many are measured as
            one.
        shown: Write nothing if False. Where NEXUS_LOG is quiet, only what is said is written.
        stream: Where to write; None is stderr.
        clock: Gives seconds, never going back.
    """

    def __init__(
        self,
        total: int | None,
        *,
        label: str = "",
        unit: str = "frames",
        done: int = 0,
        at_once: int = 1,
        shown: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.done = done
        self._head = f"{label}: " if label else ""
        self._unit = unit
        self._said = shown
        self._shown = shown and not is_quiet()
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._first = done
        self._start_s = clock()
        self._at_once = at_once
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW + 1)
        self._written_s = self._start_s
        self._width = 0
        self._closed = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, steps: int = 1) -> None:
        """Count steps as done; the line is rewritten if it is time for that."""
        now = self._clock()
        self.done += steps
        marked = self._marks[-1][1] if self._marks else self._first
        if self.done - marked >= self._at_once:
            self._marks.append((now, self.done))
        if now - self._written_s >= (_TERMINAL_INTERVAL_S if self._terminal else _LOG_INTERVAL_S):
            self._written_s = now
            self._write(self._line())

    def say(self, text: str) -> None:
        """Write a line of its own above the progress line."""
        self._write(text, end="\n", wanted=self._said)
        if self._terminal and not self._closed:
            self._write(self._line())

    def close(self) -> None:
        """Write what was done and how long it took, unless nothing was; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        steps, took_s = self.done - self._first, self._clock() - self._start_s
        if steps:
            rate = f", {_rate_text(steps / took_s)} {self._unit}/s" if took_s > 0 else ""
            whole = f" of {self.total}" if self.total not in (None, self.done) else ""
            noun = self._noun(self.total if whole else self.done)
            earlier = f" ({self._first} of them earlier)" if self._first else ""
            self._write(
                f"{self._head}{self.done}{whole} {noun}{earlier} in {_clock_time(took_s)}{rate}",
                end="\n",
            )
        elif self._width:
            self._write("", end="")

    def _line(self) -> str:
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        text = f"{self._head}{count} {self._noun(self.done if self.total is None else self.total)}"
        rate = self._rate()
        if rate is not None:
            text += f"  {_rate_text(rate)} {self._unit}/s"
            if self.total is not None:
                text += f"  ETA {_clock_time(max(self.total - self.done, 0) / rate)}"
        return text

    def _rate(self) -> float | None:
        """Return recent steps a second, pauses left out; None where too few were taken."""
        took = [
            (late_s - early_s, late - early)
            for (early_s, early), (late_s, late) in itertools.pairwise(self._marks)
        ]
        if len(took) < _FIRST_ESTIMATE:
            return None
        # Of two the shorter is the usual one: a pause early on is a pause.
        longest_s = _LONGEST_STEP * median_low(seconds / steps for seconds, steps in took)
        seconds = sum(min(s, longest_s * n) if longest_s else s for s, n in took)
        return sum(steps for _, steps in took) / seconds if seconds > 0 else None

    def _noun(self, count: int | None) -> str:
        """Return the unit as it stands behind a count."""
        return singular(self._unit) if count == 1 else self._unit

    def _write(self, text: str, end: str = "", wanted: bool | None = None) -> None:
        if not (self._shown if wanted is None else wanted):
            return
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            # A line wider than the terminal would wrap, and could not be redrawn in place.
            columns = shutil.get_terminal_size().columns - 1
            text = text if end else text[:columns]
            self._stream.write("\r" + text.ljust(self._width) + end)
            self._width = 0 if end else len(text)
        self._stream.flush()


def _rate_text(rate: float) -> str:
    """Return a rate with three digits, and no exponent for large ones."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def _clock_time(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss; short ones in seconds."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
