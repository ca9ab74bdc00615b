from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from nexus.core.errors import InputError
from nexus.core.log import asked_for, is_quiet, log_as_asked, saying
from nexus.core.progress import Progress

LOG = logging.getLogger("nexus.somewhere")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXUS_LOG", raising=False)
    # Programs that configure logging, such as those an earlier test runs, disable other loggers.
    for logger in (LOG, logging.getLogger("nexus")):
        monkeypatch.setattr(logger, "disabled", False)


def test_the_library_shows_no_records_by_itself() -> None:
    """Without a handler of the caller's nothing is written, not even what is above WARNING."""
    code = "import logging, nexus; logging.getLogger('nexus.a').error('lost')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == ""


def test_records_go_to_stderr_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """`debug` shows all, `info` less; afterwards it is as before."""
    with saying("debug"):
        LOG.debug("took %d s", 3)
        with saying("info"):
            LOG.debug("left out")
            LOG.info("once")
    LOG.info("left out")

    assert capsys.readouterr().err == "debug: took 3 s\ninfo: once\n"
    assert "NEXUS_LOG" not in os.environ


def test_quiet_silences_progress_and_keeps_what_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A progress line is not drawn; an error that is said above it is."""
    with saying("quiet"):
        assert is_quiet()
        with Progress(3) as bar:
            bar.advance()
            bar.say("error: x")

    assert capsys.readouterr().err == "error: x\n"


def test_an_unknown_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """NEXUS_LOG has four values."""
    monkeypatch.setenv("NEXUS_LOG", "loud")

    with pytest.raises(InputError, match="NEXUS_LOG to be one of quiet, warning, info, debug, got"):
        asked_for()


def test_a_worker_follows_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the parent process is to say, its workers say too; called twice, once."""
    logger = logging.getLogger("nexus")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers])
    level = logger.level
    monkeypatch.setenv("NEXUS_LOG", "info")
    log_as_asked()
    log_as_asked()
    LOG.info("here")
    logger.setLevel(level)

    assert capsys.readouterr().err == "info: here\n"
