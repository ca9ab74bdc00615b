"""The rule of tests/conftest.py about `../shared`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"
USES_PARITY = """
def test_reads_a_recording(shared_parity):
    assert shared_parity.is_dir()
"""


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    """Lay out a folder with a repository in it that has our conftest; move into it."""
    tests = pytester.path / "repository" / "tests"
    tests.mkdir(parents=True)
    (tests / "conftest.py").write_text(CONFTEST.read_text("utf-8"), "utf-8")
    pytester.makeini("[pytest]\n")
    return tests.parent


def run(pytester: pytest.Pytester, repository: Path, test: str) -> pytest.RunResult:
    """Run one test file in the repository."""
    (repository / "tests" / "test_it.py").write_text(test, "utf-8")
    return pytester.runpytest_inprocess(repository / "tests", "-ra", "-p", "no:cacheprovider")


def test_without_the_folder_a_test_skips(pytester: pytest.Pytester, repository: Path) -> None:
    """Where there is no `../shared`, a test that needs it skips with that reason."""
    result = run(pytester, repository, USES_PARITY)

    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*needs ../shared*"])


def test_with_the_folder_a_test_runs(pytester: pytest.Pytester, repository: Path) -> None:
    """The fixtures give the folders beside the repository."""
    (pytester.path / "shared" / "parity").mkdir(parents=True)

    result = run(pytester, repository, USES_PARITY)

    result.assert_outcomes(passed=1)


def test_a_gap_in_the_folder_fails_the_run(pytester: pytest.Pytester, repository: Path) -> None:
    """Where `../shared` exists, a skip that mentions it is an error naming what was missed."""
    (pytester.path / "shared").mkdir()

    result = run(pytester, repository, USES_PARITY)

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*expected no test to skip*got:*needs ../shared/parity*"])


def test_a_skipped_file_fails_the_run(pytester: pytest.Pytester, repository: Path) -> None:
    """A file that skips itself at import is caught as well."""
    (pytester.path / "shared").mkdir()
    test = 'import pytest\npytest.skip("needs ../shared/data/x", allow_module_level=True)\n'

    result = run(pytester, repository, test)

    assert result.ret != 0
    result.stdout.fnmatch_lines(["*needs ../shared/data/x*"])


def test_other_skips_stay_skips(pytester: pytest.Pytester, repository: Path) -> None:
    """A skip for another reason is left alone."""
    (pytester.path / "shared").mkdir()

    result = run(pytester, repository, 'import pytest\ndef test_x(): pytest.skip("no GPU here")\n')

    result.assert_outcomes(skipped=1)
    assert result.ret == 0


def test_homes_are_private(nexus_home: Path) -> None:
    """A test that does not ask for weights sees an empty NEXUS_HOME outside the user's own."""
    assert list(nexus_home.iterdir()) == []
    assert Path.home() / ".cache" not in nexus_home.parents
