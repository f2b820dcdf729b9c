"""Whoever stops a run is told what it did, and the next one goes on."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from mirror.sandbox import Sandbox, sample_library
from mirror.sandbox.faults import Stalled
from tests.integration.command import mirror, write_profile

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
        out, err = await process.communicate()
        sandbox.faults.rules.clear()
        again = await mirror(tmp_path, "sync", "family")

    ends = [line for line in map(json.loads, err.splitlines()) if line["event"] == "mirror.end"]
    assert process.returncode == 130
    assert ends[0]["counts"]["downloaded"] == _DONE
    assert f"{_DONE} downloaded" in out.decode()
    assert again.code == 0
    assert again.events("run.end")[0]["counts"]["unchanged"] == _DONE
