"""A profile, a sample server and what becomes of them: whole runs in this process."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.commands import sync
from mirror.core.report import Report
from mirror.destinations.identity import Known
from mirror.last_run import LastRuns
from mirror.options import Options
from mirror.profile import Chosen, Profile
from mirror.profile.loading import load_profile
from mirror.progress import Silent
from mirror.sandbox import Library, Sandbox
from mirror.session import Session
from mirror.status import Memory, Status, exit_code, look
from mirror.status_text import Asked, status_json
from tests.integration.command import write_profile
from tests.integration.mirroring import photos


@dataclass
class Household:
    """What `mirror sync family` and those who ask later see."""

    sandbox: Sandbox
    home: Path
    file: Path  # the profile

    @property
    def state(self) -> Path:
        """Where the command would remember its destinations."""
        return self.home / ".local/state/mirror"

    @property
    def root(self) -> Path:
        """The destination of the first mirror."""
        return self.home / "photos"

    @property
    def profile(self) -> Profile:
        return load_profile(self.file)

    @property
    def library(self) -> Library:
        return self.sandbox.library

    def add_mirror(self, name: str, text: str = "") -> Path:
        """Another mirror of the account, into a folder of its name."""
        folder = self.home / name
        with self.file.open("a") as file:
            file.write(
                f"[mirrors.{name}]\n{text}\n[[mirrors.{name}.destinations]]\n"
                f'path = "{folder}"\nmin_free = 0\n'
            )
        return folder

    def add_key(self, line: str) -> None:
        """One more line at the top of the profile."""
        self.file.write_text(f"{line}\n{self.file.read_text()}")

    def use_key(self, key: str) -> None:
        (self.home / "key").write_text(key)

    async def sync(self, *mirrors: str, **options: Any) -> list[Report]:
        known = Known(self.state)
        session = Session(options=Options(**options), known=known, progress=Silent())
        profile = self.profile
        chosen = [one for one in profile.mirrors if not mirrors or one.name in mirrors]
        return await sync([Chosen(profile, tuple(chosen))], session)

    async def codes(self, *mirrors: str, **options: Any) -> list[int]:
        """The exit code of each part of a sync."""
        return [int(report.exit_code) for report in await self.sync(*mirrors, **options)]

    def look(self) -> list[Status]:
        memory = Memory(Known(self.state), LastRuns(self.state))
        return list(look(self.profile, self.profile.mirrors, memory))

    def told(self) -> list[dict[str, Any]]:
        """What `status --json` says of each mirror."""
        answer = json.loads(json.dumps(status_json(self.look(), Asked(datetime.now(UTC)))))
        mirrors: list[dict[str, Any]] = answer["mirrors"]
        return mirrors

    def exit_code(self, max_age_h: int | None = None) -> int:
        """That of `status`."""
        max_age = None if max_age_h is None else timedelta(hours=max_age_h)
        return int(exit_code(self.look(), max_age, datetime.now(UTC)))

    def records(self) -> Iterator[Path]:
        """Every file that tells of the last run."""
        yield self.root / ".mirror/last-run.json"
        yield from (self.state / "last-runs").iterdir()

    def grow_older(self, hours: int) -> None:
        """As if everything that is remembered had happened so long ago."""
        for file in self.records():
            run = json.loads(file.read_text())
            for name in ("started_at", "ended_at", "last_success_at"):
                if run[name]:
                    earlier = datetime.fromisoformat(run[name]) - timedelta(hours=hours)
                    run[name] = earlier.isoformat()
            file.write_text(json.dumps(run))


@asynccontextmanager
async def household(home: Path, library: Library | None = None) -> AsyncIterator[Household]:
    """One account with the three photos of a day, one mirror."""
    async with Sandbox(photos(3) if library is None else library) as sandbox:
        file = write_profile(home, sandbox.url, sandbox.api_keys["minimum"])
        yield Household(sandbox, home, file)
