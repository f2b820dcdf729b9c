"""`mirror demo`: a sample server, its first mirror, a change, and the proof, in one command.

Only the server is a sample: the profile lies on the disk, the syncs run the code of `mirror sync`,
and anyone can check the files. What is told comes from the reports, the server's own log and the
disk; what is not as it should be ends the demo.
"""

import asyncio
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, repeat
from pathlib import Path, PurePosixPath
from typing import Final

import tomli_w

from mirror.commands import sync
from mirror.core.plan import Action
from mirror.core.report import Outcome, Report
from mirror.destinations import STATE, unwritable
from mirror.destinations.identity import Known
from mirror.errors import ExitCode, MirrorError, UsageError
from mirror.logs import printable
from mirror.manifest import NAME as MANIFEST
from mirror.options import Options
from mirror.profile import Chosen, Profile
from mirror.profile.loading import load_profile
from mirror.progress import shown
from mirror.render import report_text
from mirror.sandbox import Library, Request, Sandbox, sample_library
from mirror.sandbox.images import Taken, jpeg
from mirror.sandbox.records import StoredAsset
from mirror.session import Session
from mirror.sizes import size

_ASSETS: Final = 300
_HEADER: Final = "# Written by `mirror demo`. Its server was a sample, and is gone.\n"
_NAMESAKE: Final = "IMG_0001.JPG"  # the sample library has three of them, taken on one day
_NAMESAKES_DAY: Final = datetime(2021, 7, 14, 18, tzinfo=UTC)
_BIRTHDAY: Final = datetime(2025, 5, 1, 15, 30, tzinfo=UTC)
_GREEN: Final = (60, 160, 90)
_NEW: Final = frozenset({Outcome.DOWNLOADED, Outcome.REBOUND})  # rebound: an earlier demo had it

# What somebody needs for a server of their own; the tests take it as it stands.
OWN_PROFILE: Final = (
    'server = "https://photos.example.org"',
    'accounts.me.api_key = { file = "~/.config/mirror/me.key" }',
    'mirrors.photos.destinations = [{ path = "~/photos" }]',
)
OWN_SYNC: Final = "mirror sync photos"
OWN_COPY: Final = "mirror copy --immich_api_url URL --save_to FOLDER"


class DemoError(MirrorError):
    """Something is not as the demo promises."""

    code = "demo"


async def demo(to: Path | None, *, say: Callable[[str], None], quiet: bool = False) -> ExitCode:
    """Run the whole demo in `to`, or in a new temporary folder; either is kept.

    `say` is given one paragraph at a time; `quiet` leaves out the bars on stderr.

    Raises:
        UsageError: `to` holds something else than an earlier demo.
        DemoError: something went otherwise than it should.
        MirrorError: a sync was stopped.
    """
    folder = _folder(to)
    async with Sandbox(sample_library(_ASSETS)) as server:
        async for paragraph in _Demo(folder, server, quiet=quiet).paragraphs():
            say(f"{paragraph}\n")
    say(_for_your_own())
    return ExitCode.OK


# -- the folder ------------------------------------------------------------------------------------


def _folder(to: Path | None) -> Path:
    """Where the demo lives: empty, or an earlier demo's."""
    if to is None:
        return Path(tempfile.mkdtemp(prefix="immich-mirror-demo-"))
    folder = to.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_free = not any(folder.iterdir()) or _is_demo(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not is_free:
        raise UsageError(
            f"{folder}: this folder is not empty",
            why="and it does not hold an earlier demo",
            hint="name a new folder; or none, for a temporary one",
        )
    return folder


def _profile_path(folder: Path) -> Path:
    return folder / "profiles" / "demo.toml"


def _is_demo(folder: Path) -> bool:
    profile = _profile_path(folder)
    return profile.is_file() and profile.read_bytes().startswith(_HEADER.encode())


def _written_profile(folder: Path, server: Sandbox) -> Profile:
    """A profile and the key that it names, as somebody would write them; loaded again."""
    key, path = folder / "profiles" / "demo.key", _profile_path(folder)
    tables = {
        "server": server.url,
        "accounts": {"robin": {"api_key": {"file": str(key)}}},
        "mirrors": {"photos": {"destinations": [{"path": str(folder / "photos")}]}},
    }
    try:
        path.parent.mkdir(exist_ok=True)
        _write_private(key, server.api_keys["minimum"] + "\n")
        _write_private(path, _HEADER + tomli_w.dumps(tables))
    except OSError as error:
        raise unwritable(folder, error) from error
    return load_profile(path, min_free_bytes=0)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


# -- the steps -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Synced:
    """One sync: what it did, and what the server saw of it."""

    report: Report
    actions: tuple[Action, ...]
    requests: tuple[Request, ...]
    duration_s: float

    @property
    def originals(self) -> int:
        return sum(request.original_of is not None for request in self.requests)

    def __str__(self) -> str:
        counts = self.report.counts.items()
        received = f" ({size(self.report.received_bytes)})" if self.report.received_bytes else ""
        return (
            f"{', '.join(f'{count} {outcome.value}' for outcome, count in counts)}\n"
            f"  {len(self.requests)} requests, {self.originals} of them for originals{received},"
            f" {self.duration_s:.1f} s"
        )


class _Demo:
    """What happens between a sample server and a folder."""

    def __init__(self, folder: Path, server: Sandbox, *, quiet: bool) -> None:
        self._folder, self._server, self._quiet = folder, server, quiet
        self._photos = folder / "photos"
        self._begun_s = time.monotonic()

    async def paragraphs(self) -> AsyncIterator[str]:
        """Each step when it is done.

        Raises:
            MirrorError: one went wrong; the rest is not tried.
        """
        over = ", over the files of an earlier demo" if _is_demo(self._folder) else ""
        profile = _written_profile(self._folder, self._server)
        yield self._beginning()
        yield f"First sync{over}:\n  {await self._sync(profile)}"
        expected = _change(self._server.library)
        second = await self._sync(profile)
        _check_only(second, expected)
        yield f"{_CHANGE}\n{_steps(second, profile)}\n  {second}"
        third = await self._sync(profile)
        _check_only(third, {})
        yield f"Third sync, nothing changed:\n  {third}"
        yield await asyncio.to_thread(self._verified)
        yield _tree(self._photos)
        yield self._sum()

    def _beginning(self) -> str:
        library = self._server.library
        others = len(library.assets) - sum(1 for _ in _listed_by(library))
        return (
            f"A sample Immich {library.dialect} holds {len(library.assets)} photos and videos;"
            f" {others} of them are a partner's,\n"
            "archived or in the trash, which the profile does not select. The demo stays in\n"
            f"  {printable(str(self._folder))}\n"
            "where profiles/demo.toml says what to mirror, and photos/ is the mirror."
        )

    async def _sync(self, profile: Profile) -> _Synced:
        """What `mirror sync` does; only what it remembers of destinations stays in the folder."""
        begun_s, asked_before = time.monotonic(), len(self._server.requests)
        options, known = Options(), Known(self._folder / "state")
        with shown(quiet=self._quiet) as progress:
            session = Session(options=options, known=known, progress=progress)
            (report,) = await sync([Chosen(profile, profile.mirrors)], session)
        if report.error is not None:
            raise report.error
        if report.exit_code is not ExitCode.OK:
            raise DemoError("a sync did not bring everything", why="\n".join(report_text(report)))
        return _Synced(
            report=report,
            actions=session.runs[0].plan.actions,
            requests=tuple(self._server.requests[asked_before:]),
            duration_s=time.monotonic() - begun_s,
        )

    def _verified(self) -> str:
        """Every file against the list of checksums, and the list against the server. Blocks."""
        manifest = self._photos / STATE / MANIFEST
        lines = manifest.read_text("utf-8").splitlines()
        sums = {path: sha1 for sha1, _, path in (line.partition("  ") for line in lines)}
        listed = {asset.content.sha1.hex() for asset in _listed_by(self._server.library)}
        if not listed <= set(sums.values()):
            raise DemoError(f"{manifest}: does not have every original that the server lists")
        checked_with = _check_sums(self._photos, sums)
        return (
            f"Verified with {checked_with}:\n"
            f"  {len(sums)} files OK, among them all {len(listed)} originals that the server lists"
        )

    def _sum(self) -> str:
        requests = self._server.requests
        fetched = Counter(each.original_of for each in requests if each.original_of)
        if any(count > 1 for count in fetched.values()):
            raise DemoError("an original was fetched twice")
        return (
            f"In all: 3 syncs, {len(requests)} requests, {len(fetched)} originals fetched, none"
            f" of them twice; {time.monotonic() - self._begun_s:.1f} s"
        )


# -- the change ------------------------------------------------------------------------------------

_CHANGE: Final = """\
On the server, two photos are uploaded, one gets another date, one becomes a
favourite, an album gets another name, and one photo goes to the trash.
Second sync:"""


def _change(library: Library) -> dict[str, frozenset[Outcome]]:
    """What `_CHANGE` says; by asset id, what may become of its file. All others stay."""
    ordinary = (a for a in library.own() if a.original_file_name.startswith("IMG_20"))
    misdated, favourite, blurred = islice(ordinary, 3)
    library.redate(misdated.id, misdated.file_created_at + timedelta(days=365))
    library.favorite(favourite.id)
    library.trash(blurred.id)
    next(iter(library.albums.values())).name = "Summer holidays"
    return {
        misdated.id: frozenset({Outcome.MOVED}),
        blurred.id: frozenset({Outcome.RETAINED}),
        _uploaded(library, _NAMESAKE, _NAMESAKES_DAY): _NEW,
        _uploaded(library, "birthday.jpg", _BIRTHDAY): _NEW,
    }


def _uploaded(library: Library, name: str, taken_at: datetime) -> str:
    taken = Taken(taken_at.replace(tzinfo=None))
    return library.upload(name, jpeg(_GREEN, taken, comment=name.encode()), taken_at=taken_at).id


def _check_only(synced: _Synced, expected: Mapping[str, frozenset[Outcome]]) -> None:
    """The files of these assets changed as they may, and nothing else did."""
    outcomes = synced.report.outcomes
    wrong = [
        asset_id
        for asset_id in expected.keys() | outcomes.keys()
        if outcomes.get(asset_id) not in expected.get(asset_id, ())
    ]
    downloaded = synced.report.counts.get(Outcome.DOWNLOADED, 0)
    if wrong or synced.originals != downloaded:
        raise DemoError(
            "a sync did something else than what had changed",
            why=f"{synced}; not as it should be: {', '.join(wrong) or 'the originals asked for'}",
        )


def _steps(synced: _Synced, profile: Profile) -> str:
    """One line a changed file."""
    policy = profile.mirrors[0].destinations[0].on_removed
    notes = {
        Outcome.RETAINED: f'(on_removed = "{policy.value}")',
        Outcome.REBOUND: "(an earlier demo's)",
    }
    lines = []
    for action in synced.actions:
        outcome = synced.report.outcomes[action.asset_id]
        source = f"from {PurePosixPath(action.source).parent}" if action.source else ""
        note = source or notes.get(outcome, "")
        lines.append(f"  {outcome.value:<10}  {printable(action.path)}  {note}".rstrip())
    return "\n".join(lines)


# -- the proof -------------------------------------------------------------------------------------


def _listed_by(library: Library) -> Iterator[StoredAsset]:
    """What the server lists of the own timeline, with the videos of live photos."""
    return (
        asset
        for asset in library.own()
        if not asset.trashed and asset.visibility in {"timeline", "hidden"}
    )


def _files(photos: Path) -> Iterator[str]:
    """Every file of the mirror, below it."""
    paths = (path.relative_to(photos) for path in photos.rglob("*") if path.is_file())
    return (path.as_posix() for path in paths if path.parts[0] != STATE)


def _check_sums(photos: Path, sums: Mapping[str, str]) -> str:
    """Hash every file again; by which program.

    Raises:
        DemoError: one has other bytes.
    """
    program = shutil.which("sha1sum")
    if program is None:
        for path, sha1 in sums.items():
            if (
                hashlib.sha1((photos / path).read_bytes(), usedforsecurity=False).hexdigest()
                != sha1
            ):
                raise DemoError(f"{path}: other bytes than its checksum says")
        return "Python's hashlib (there is no sha1sum here)"
    command = ["sha1sum", "-c", f"{STATE}/{MANIFEST}"]
    done = subprocess.run(  # noqa: S603 (no shell, and nothing of it is given)
        command, executable=program, cwd=photos, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"{' '.join(command)} failed", why=done.stderr.strip())
    return f"`{' '.join(command)}`, in photos/"


# -- what to see -----------------------------------------------------------------------------------

_EXAMPLES: Final = (
    (f"*/*/*/{Path(_NAMESAKE).stem}*", "one name on one day: all are there"),
    ("*/*/*/trip_*", "on the server: trip/../dinner: what?.jpg"),
    ("*/*/*/IMG_5000.*", "a live photo: still and video"),
)


def _tree(photos: Path) -> str:
    """The years with their counts, and what is hard to mirror."""
    years = sorted(path.name for path in photos.iterdir() if path.is_dir() and path.name != STATE)
    counts = [f"{year}: {sum(1 for _ in _files(photos / year))}" for year in years]
    lines = [f"photos/ {'  '.join(counts)}"]
    for pattern, note in _EXAMPLES:
        found = sorted(photos.glob(pattern), key=lambda path: (len(path.stem), path))
        paths = (path.relative_to(photos).as_posix() for path in found)
        lines += [
            f"  {path:<37} {said}".rstrip()
            for path, said in zip(paths, chain([note], repeat("")), strict=False)
        ]
    return "\n".join(lines)


def _for_your_own() -> str:
    profile = "\n".join(f"  {line}" for line in OWN_PROFILE)
    return (
        "For your own server, with an API key that has asset.read and asset.download\n"
        "in the environment, as IMMICH_API_KEY:\n"
        f"  {OWN_COPY}\n"
        "or say it once, the key in a file, in ~/.config/mirror/profiles/photos.toml:\n"
        f"{profile}\n"
        f"  {OWN_SYNC}"
    )
