"""Whoever stops a run is told what it did, and the next one goes on."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from mirror.destinations.folder import Folder
from mirror.errors import InterruptedRunError
from mirror.sandbox import Sandbox, sample_library
from mirror.sandbox.faults import Stalled
from mirror.threads import stopping
from tests.integration.command import ended_with, mirror, write_profile
from tests.integration.mirroring import until

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
