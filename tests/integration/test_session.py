"""All mirrors of a command: what one of them meets is no other's."""

from pathlib import Path

from mirror.core.model import Destination, Mirror
from mirror.core.report import Report
from mirror.core.secret import LiteralSecret
from mirror.destinations.identity import Known
from mirror.errors import ExitCode, InternalError
from mirror.options import Options
from mirror.profile import Account, Profile
from mirror.progress import Silent
from mirror.sandbox import Sandbox
from mirror.session import Session
from tests.integration.mirroring import files, photos


class Faulty(Silent):
    """A fault of our own, which strikes once."""

    struck = False

    def part(self, _name: str) -> "Faulty":
        return self

    def plan(self, files: int, size_bytes: int) -> None:
        if not self.struck:
            self.struck = True
            raise RuntimeError(f"nobody expected {files} files of {size_bytes} bytes")


def to(folder: Path) -> Mirror:
    destination = Destination(path=str(folder), min_free_bytes=0)
    return Mirror(name=folder.name, account="me", destinations=(destination,))


async def both(tmp_path: Path) -> tuple[Report, Report]:
    """The reports of two mirrors that run side by side: of the one that met the fault first."""
    async with Sandbox(photos(3)) as sandbox:
        secret = LiteralSecret(sandbox.api_keys["minimum"])
        account = Account(name="me", server=sandbox.url, api_key=secret)
        profile = Profile(
            name="family",
            path=tmp_path / "family.toml",
            accounts={"me": account},
            mirrors=(to(tmp_path / "first"), to(tmp_path / "second")),
        )
        session = Session(options=Options(), known=Known(tmp_path / "state"), progress=Faulty())
        await session.run(profile, profile.mirrors)
    struck, spared = sorted((run.report for run in session.runs), key=lambda it: it.error is None)
    return struck, spared


async def test_a_fault_of_our_own_ends_one_mirror_and_not_the_next(tmp_path: Path):
    struck, spared = await both(tmp_path)
    assert isinstance(struck.error, InternalError)
    assert struck.exit_code is ExitCode.PARTIAL
    assert "RuntimeError: nobody expected 3 files" in struck.error.what
    assert isinstance(struck.error.__cause__, RuntimeError)
    assert spared.exit_code is ExitCode.OK
    assert len(files(Path(spared.destination))) == 3
