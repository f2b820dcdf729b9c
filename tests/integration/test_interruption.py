"""Whoever stops a run is told what it did, and the next one goes on."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.cli.shared import run
from mirror.destinations.folder import Folder
from mirror.destinations.lock import locked
from mirror.errors import InterruptedRunError
from mirror.sandbox import Sandbox, sample_library
from mirror.sandbox.faults import Stalled
from mirror.stopping import stopping
from mirror.transfer import SMALL_BYTES
from tests.integration.command import ended_with, mirror, write_profile
from tests.integration.mirroring import NOON, content, files, photos, until

_PROJECT = Path(__file__).parents[2]
_DONE = 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_stopped_run_tells_what_it_did_and_the_next_one_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with Sandbox(sample_library(40)) as sandbox:
        stalled = Stalled()
        sandbox.faults.add(stalled, path="/api/assets/*/original", skip=_DONE)
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mirror", "sync", "family",
            stdout=PIPE, stderr=PIPE, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(_PROJECT)},
        )  # fmt: skip
        # As many as are asked for at once; those that stall never end, and so are never told.
        while sum(request.original_of is not None for request in sandbox.requests) < _DONE + 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        process.send_signal(number)
        ended = ended_with(process.returncode, *await process.communicate())
        sandbox.faults.rules.clear()
        again = await mirror(tmp_path, "sync", "family")

    assert process.returncode == 130
    assert ended.events("mirror.end")[0]["counts"]["downloaded"] == _DONE
    assert f"{_DONE} downloaded" in ended.out
    assert again.code == 0
    assert again.events("run.end")[0]["counts"]["unchanged"] == _DONE


async def _stubborn(home: Path) -> asyncio.subprocess.Process:
    """A run that waits, on a thread, for a command that takes its time to say the key."""
    profile = home / "stubborn.toml"
    started = home / "started"
    command = ["sh", "-c", f"touch {started}; exec sleep 60"]
    profile.write_text(
        'server = "http://127.0.0.1:9"\n'
        f"[accounts.me]\napi_key = {{ command = {json.dumps(command)} }}\n"
        f'[mirrors.all]\n[[mirrors.all.destinations]]\npath = "{home / "photos"}"\n'
    )
    profile.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mirror", "sync", str(profile),
        stdout=PIPE, stderr=PIPE, cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(_PROJECT)},
    )  # fmt: skip
    await until(started.exists)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    process = await _stubborn(tmp_path)
    process.send_signal(number)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.2)
    process.send_signal(number)
    async with asyncio.timeout(5):
        ended = ended_with(process.returncode, *await process.communicate())
    assert process.returncode == 130
    last = ended.lines[-1]
    assert last["error.code"] == "interrupted"
    assert "a second signal" in last["error.message"]


@pytest.mark.skipif(not os.environ.get("MIRROR_SLOW"), reason="takes ten seconds: MIRROR_SLOW=1")
async def test_what_cannot_be_stopped_is_left_after_ten_seconds(tmp_path: Path) -> None:
    process = await _stubborn(tmp_path)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(15):
        ended = ended_with(process.returncode, *await process.communicate())
    assert process.returncode == 130
    assert "not done within 10 s" in ended.err


async def _started(home: Path, profile: str, stderr: int = PIPE) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mirror", "sync", profile,
        stdout=PIPE, stderr=stderr, cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(_PROJECT)},
    )  # fmt: skip


def _size(path: Path) -> int:
    """Of a file that may go at any time: what tries the file system is there for a moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def test_a_film_is_gone_on_with_where_it_was_cut(tmp_path: Path) -> None:
    library = photos(2)
    film = library.upload("film.mp4", content("film", 3 * SMALL_BYTES), taken_at=NOON)
    async with Sandbox(library) as sandbox:
        sandbox.faults.add(Stalled(after_bytes=2 * SMALL_BYTES), asset_id=film.id)
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        process = await _started(tmp_path, "family")
        partials = tmp_path / "photos/.mirror/partial"
        await until(lambda: any(_size(path) > SMALL_BYTES for path in partials.glob("*")))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await process.communicate()
        assert process.returncode == 130
        assert not [path for path in files(tmp_path / "photos") if path.endswith(".mp4")]
        sandbox.faults.rules.clear()
        sandbox.requests.clear()
        again = await mirror(tmp_path, "sync", "family")
        assert again.code == 0
        assert film.content.sha1 in files(tmp_path / "photos").values()
        (request,) = [it for it in sandbox.requests if it.original_of and it.method == "GET"]
        assert (request.original_of, request.status) == (film.id, 206)


async def test_a_second_signal_needs_nobody_who_reads_what_is_said(tmp_path: Path) -> None:
    """The log goes into a pipe that is full: the run hangs in it, and its last word would too."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    async with Sandbox(photos(1)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        process = await _started(tmp_path, "family", writing)
        await until(lambda: _is_caught(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        await until(lambda: not _is_pending(process.pid))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(8):
            await process.communicate()
    os.close(reading)
    os.close(writing)
    assert process.returncode == 130


async def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    async with Sandbox(photos(3)) as sandbox:
        stalled = Stalled()
        rule = sandbox.faults.add(stalled, path="/api/assets/*/original", times=1)
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        command = f'trap "" HUP; exec {sys.executable} -m mirror sync family'
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdout=PIPE, stderr=PIPE, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(_PROJECT)},
        )  # fmt: skip
        await until(lambda: rule.met)
        process.send_signal(signal.SIGHUP)
        stalled.released.set()
        await process.communicate()
    assert process.returncode == 0
    assert len(files(tmp_path / "photos")) == 3


def _signals(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)), 16)


def _is_caught(pid: int, number: signal.Signals) -> bool:
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc to see what a process catches")
    return bool(_signals(pid, "SigCgt") >> (number - 1) & 1)


def _is_pending(pid: int) -> bool:
    return bool(_signals(pid, "ShdPnd") | _signals(pid, "SigPnd"))


def test_a_command_leaves_signals_as_they_were() -> None:
    async def work() -> list[object]:
        return [signal.getsignal(number) for number in caught]

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in caught]
    assert before != run(work())
    assert [signal.getsignal(number) for number in caught] == before


async def test_another_run_is_waited_for_no_longer_than_it_is_said(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    async with Sandbox(photos(2)) as sandbox:
        write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
        assert (await mirror(tmp_path, "sync", "family")).code == 0
        today = datetime.now(UTC).date().isoformat()
        with locked(root):
            ended = await mirror(tmp_path, "sync", "family", "--wait", "0.2")
            assert ended.code == 7
            held = f"process {os.getpid()} on {socket.gethostname()}, since {today}"
            assert held in ended.said
            log = tmp_path / "log"
            waiting = asyncio.create_task(
                mirror(tmp_path, "sync", "family", "--wait", "60", "--log-file", log)
            )
            await until(lambda: log.exists() and "destination.busy" in log.read_text())
        assert (await waiting).code == 0


async def test_a_long_hash_is_left_when_the_run_is_to_stop(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    with Folder(tmp_path) as folder:
        assert len(folder.sha1("large")) == 20
        stopping.set()
        try:
            with pytest.raises(InterruptedRunError):
                folder.sha1("large")
            with pytest.raises(InterruptedRunError):
                list(folder.scan())
        finally:
            stopping.clear()
