"""What every test may use."""

import json
import os
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from mirror import logs
from mirror.events import SCHEMA_VERSION
from mirror.sandbox import Sandbox
from tests.ceph import Ceph, packages
from tests.integration.starts import ending
from tests.planted import PLANTED, assert_unsaid, assert_unwritten
from tests.published import assert_published
from tests.stores import Served

# Other work on the machine is no failure: no test of a law is timed.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(autouse=True, scope="session")
def _planted() -> Iterator[None]:
    """The keys of every sample server are known, so that nobody says them unheard."""
    begin = Sandbox.__aenter__

    async def registered(sandbox: Sandbox) -> Sandbox:
        PLANTED.update(key.secret for key in sandbox.library.keys)
        return await begin(sandbox)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sandbox, "__aenter__", registered)
        yield


@pytest.fixture(autouse=True, scope="session")
def _started() -> Iterator[None]:
    """No process outlives the tests that only was there to be forked."""
    with ending():
        yield


@pytest.fixture(autouse=True)
def _unwritten(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test's runs left behind holds no key."""
    yield
    folder = getattr(request.node, "funcargs", {}).get("tmp_path")
    if folder is not None and PLANTED:
        assert_unwritten(folder)


def _check(line: dict[str, Any]) -> None:
    assert_unsaid(json.dumps(line))
    assert_published(line)


@pytest.fixture(autouse=True)
def log() -> Iterator[list[dict[str, Any]]]:
    """Every line that the test logs, as it would be written; each is checked."""
    lines: list[dict[str, Any]] = []

    def keep(_: object, level: str, event: MutableMapping[str, Any]) -> str:
        line = {"ts": "2026-01-01T00:00:00Z", "level": level, "v": SCHEMA_VERSION, **event}
        _check(line)
        lines.append(line)
        raise structlog.DropEvent

    logs.logger()  # as the last test left it: not later, which would undo what follows
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        cache_logger_on_first_use=False,
    )
    yield lines
    logs.configure(json_lines=False, level="info")  # lets go of a file, and of what a test chose
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def ceph() -> Iterator[Served]:
    """A bucket of a real cluster, which starts once for all that need it."""
    # Paths of its sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ceph-") as folder,
        Ceph(packages(), Path(folder)).running() as store,
    ):
        yield store
