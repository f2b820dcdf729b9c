"""Whole runs against a sample server: in this process, or in a child that can be killed."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mirror.core.model import Destination, Mirror
from mirror.core.verify import Verification
from mirror.destinations import Site
from mirror.destinations.identity import Known
from mirror.errors import ExitCode
from mirror.immich.catalogue import Catalogues
from mirror.immich.client import Client, RetryPolicy, Timeouts
from mirror.options import Options
from mirror.progress import Silent
from mirror.run import MirrorRun
from mirror.sandbox import Library, Sandbox, sample_library
from mirror.sandbox.records import MINIMUM, Key, StoredAsset, User
from mirror.verify import Asked, VerifyRun
from tests.integration.command import ended_with
from tests.integration.starts import PROJECT, environment, started

LABEL = "family/me"
NOON = datetime(2020, 6, 15, 12, tzinfo=UTC)


async def no_wait(_wait_s: float) -> None:
    """Retries take no time."""


@dataclass
class Mirrored:
    """A sample server, and a folder that is kept in line with it."""

    sandbox: Sandbox
    root: Path
    known: Known | None
    mirror: Mirror = field(default_factory=lambda: Mirror(name="me", account="me"))
    label: str = LABEL
    destination: dict[str, Any] = field(default_factory=lambda: {"min_free_bytes": 0})
    key: str = "minimum"
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(sleep=no_wait))
    site: Site | None = None  # None: the folder
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def library(self) -> Library:
        return self.sandbox.library

    @asynccontextmanager
    async def ready(self, **options: Any) -> AsyncIterator[MirrorRun]:
        """A run that only has to be started."""
        async with Client(
            self.sandbox.url,
            self.sandbox.api_keys[self.key],
            retry=self.retry,
            timeouts=self.timeouts,
        ) as client:
            await client.connect()
            chosen = Options(**options)
            catalogues = self._catalogues(chosen)
            yield MirrorRun(
                mirror=self.mirror,
                destination=Destination(path=str(self.root), **self.destination),
                client=client,
                label=self.label,
                known=self.known,
                options=chosen,
                progress=Silent(),
                site=self.site,
                catalogues=catalogues,
            )
            if catalogues is not None:
                catalogues.close()

    def _catalogues(self, options: Options) -> Catalogues | None:
        if self.known is None:
            return None
        folder = self.known.folder / "catalogue"
        return Catalogues(folder, dry=options.dry, relist=options.relist)

    async def run(self, **options: Any) -> MirrorRun:
        async with self.ready(**options) as run:
            await run.run()
        return run

    async def synced(self, **options: Any) -> MirrorRun:
        """A run that must end well."""
        run = await self.run(**options)
        assert_in_sync(run)
        return run

    async def planned(self, **options: Any) -> MirrorRun:
        return await self.run(dry=True, **options)

    def layout(self, layout: str) -> None:
        self.mirror = replace(self.mirror, layout=layout)

    def originals(self, method: str = "GET") -> Counter[str]:
        """How often the original of each asset was asked for."""
        return Counter(
            request.original_of
            for request in self.sandbox.requests
            if request.original_of is not None and request.method == method
        )

    async def assert_settled(self) -> None:
        """Another run is a no-op: nothing is asked for, nothing is touched."""
        before, inside = tree(self.root), own_state(self.root)
        self.sandbox.requests.clear()
        run = await self.run()
        assert run.report.exit_code is ExitCode.OK, describe(run)
        assert run.plan.actions == (), [str(action) for action in run.plan.actions]
        assert self.originals() == {}
        assert tree(self.root) == before
        assert own_state(self.root) == inside

    async def child(self, **told: Any) -> "Ended":
        """A run in a process of its own; see `child.py`."""
        folder = self.root.parent
        words = ("-m", "tests.integration.child", json.dumps(self._told(**told)))
        child = await started(*words, folder=folder, environ=environment(folder))
        out, err = await child.communicate()
        return _ended(child.returncode, out, err)

    async def traced(self, trace: Path, **told: Any) -> "Ended":
        """The same under strace."""
        command = [sys.executable, "-m", "tests.integration.child", json.dumps(self._told(**told))]
        strace = ["strace", "-f", "-y", "-s", "4096", "-e", "trace=file,desc", "-o", str(trace)]
        # On a thread: the loop's own pipes may outlive a loop that closes just when the child ends.
        child = await asyncio.to_thread(
            subprocess.run,
            [*strace, *command],
            cwd=PROJECT,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        )
        return _ended(child.returncode, child.stdout, child.stderr)

    def _told(self, **told: Any) -> dict[str, Any]:
        return {
            "url": self.sandbox.url,
            "key": self.sandbox.api_keys[self.key],
            "root": str(self.root),
            "label": self.label,
            "layout": self.mirror.layout,
            "names": self.mirror.names.value,
            **told,
        }


@dataclass(frozen=True)
class Ended:
    """How a child ended: `told` is what it printed, None if it was killed first."""

    status: int
    told: dict[str, Any] | None
    errors: str


def _ended(code: int | None, out: bytes, err: bytes) -> Ended:
    ended = ended_with(code, out, err)
    return Ended(ended.code, json.loads(ended.out) if ended.out else None, ended.err)


@asynccontextmanager
async def mirrored(
    folder: Path, library: Library | None = None, **settings: Any
) -> AsyncIterator[Mirrored]:
    """`folder` will hold the tree and what is remembered outside of it."""
    async with Sandbox(sample_library() if library is None else library) as sandbox:
        known = Known(folder / "state")
        yield Mirrored(sandbox, folder / "tree", **{"known": known, **settings})


def of_profile(home: Path, sandbox: Sandbox) -> Mirrored:
    """The mirror of `command.write_profile`, in this process: a start less."""
    known = Known(home / ".local/state/mirror")
    return Mirrored(sandbox, home / "photos", known, label="family/all")


# -- libraries -------------------------------------------------------------------------------------


def empty(version: str = "3.1.0") -> Library:
    return sample_library(0, version=version)


def photos(count: int, size_bytes: int = 200) -> Library:
    """So many photos of one day, each with bytes of its own."""
    library = empty()
    for number in range(count):
        library.upload(f"IMG_{number:04}.jpg", content(number, size_bytes), taken_at=NOON)
    return library


def with_member(library: Library, name: str) -> str:
    """One more user, with a key of that name in small letters; the user's id."""
    user = User(str(uuid.uuid4()), name, f"{name.lower()}@example.org", NOON)
    library.users[user.id] = user
    secret = content(f"key of {name}", 20).hex()
    key = Key(str(uuid.uuid4()), f"{name} {name.lower()}", secret, user.id, [*MINIMUM], NOON)
    library.keys.append(key)
    return user.id


def content(seed: object, size_bytes: int = 200) -> bytes:
    """Bytes like no other seed's."""
    return hashlib.shake_128(str(seed).encode()).digest(size_bytes)


def sha1_of(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def make_external(asset: StoredAsset) -> None:
    """As an external library has it: the checksum is of the path."""
    asset.library_id = "5f0c32d7-8df1-4b0c-a1c8-3a0f6c5ef3c1"
    asset.original_path = f"/external/{asset.original_file_name}"
    asset.path_checksum = True


def wanted(library: Library) -> list[StoredAsset]:
    """What the default mirror is to hold, by the sample server's own model.

    A motion video that the server cut out of a still is in the still's bytes already.
    """
    shown = [
        asset
        for asset in library.own()
        if asset.visibility == "timeline" and not asset.trashed and not asset.is_offline
    ]
    videos = {asset.live_photo_video_id for asset in shown} - {None}
    hidden = [library.assets[video_id] for video_id in sorted(map(str, videos))]
    hidden = [video for video in hidden if not video.original_path.endswith("-MP.mp4")]
    return shown + [video for video in hidden if video.visibility == "hidden" and not video.trashed]


def contents(assets: Iterable[StoredAsset]) -> Counter[bytes]:
    return Counter(asset.content.sha1 for asset in assets)


# -- trees -----------------------------------------------------------------------------------------


def files(root: Path) -> dict[str, bytes]:
    """SHA-1 of every file outside our own folder, by path."""
    return {path: sha1_of(_bytes(root, path)) for path in _files(root)}


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything outside our own folder: what it is, when changed, and what it holds."""
    return {path: _look(root, path) for path in _everything(root, skip=".mirror")}


def own_state(root: Path) -> dict[str, bytes]:
    """The content of what we keep, without what a run without changes writes."""
    state = root / ".mirror"
    return {
        path: _bytes(state, path)
        for path in _everything(state)
        if path != "last-run.json" and (state / path).is_file()
    }


def whole(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file and folder with its times, our own included."""
    return {path: _look(root, path) for path in _everything(root)}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def moved_aside(root: Path) -> list[Path]:
    """The files in quarantine."""
    return sorted(path for path in (root / ".mirror/quarantine").rglob("*") if path.is_file())


def _look(root: Path, path: str) -> tuple[object, ...]:
    found = os.lstat(root / path)
    data = _bytes(root, path) if (root / path).is_file() else b""
    return found.st_mode, found.st_mtime_ns, data


def _bytes(root: Path, path: str) -> bytes:
    return (root / path).read_bytes()


def _files(root: Path) -> Iterator[str]:
    return (path for path in _everything(root, skip=".mirror") if (root / path).is_file())


def _everything(root: Path, skip: str | None = None) -> Iterator[str]:
    for folder, names, others in os.walk(root):
        here = os.path.relpath(folder, root)
        if here == "." and skip in names:
            names.remove(skip)
        yield from (os.path.normpath(f"{here}/{name}") for name in (*names, *others))


# -- runs ------------------------------------------------------------------------------------------


def describe(run: MirrorRun) -> str:
    report = run.report
    failures = [f"{failed.path}: {failed.error}" for failed in report.failures]
    return f"{report.exit_code!r} {report.counts} {report.error} {failures} {report.problems}"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  nobody tells when a file or a request has come
            await asyncio.sleep(0.01)


def assert_in_sync(run: MirrorRun) -> None:
    assert run.report.exit_code is ExitCode.OK, describe(run)


def counts(run: MirrorRun) -> dict[str, int]:
    """How many assets had each outcome."""
    return {outcome.value: count for outcome, count in run.report.counts.items()}


# -- verification ----------------------------------------------------------------------------------


def rot(path: Path, byte: int = 7) -> bytes:
    """Another byte under the same size and time; what lies there now."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return bytes(data)


async def verified(me: Mirrored, *, budget_over: bool = False, **asked: Any) -> Verification:
    """The tree, read again."""
    async with AsyncExitStack() as stack:

        async def connected() -> Client:
            key = me.sandbox.api_keys[me.key]
            client = Client(me.sandbox.url, key, retry=me.retry, timeouts=me.timeouts)
            await stack.enter_async_context(client)
            await client.connect()
            return client

        run = VerifyRun(
            mirror=me.mirror,
            destination=Destination(path=str(me.root), **me.destination),
            label=me.label,
            known=me.known,
            asked=Asked(**asked),
            until_s=0.0 if budget_over else None,
            connected=connected,
            progress=Silent(),
        )
        return await run.run()
