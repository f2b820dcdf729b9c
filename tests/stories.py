"""For each exit code how to get it, by the command line alone.

A code that the README names and no story ends with is a failure of `test_readme`: write a story.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror.destinations.lock import locked
from mirror.errors import ExitCode
from mirror.sandbox import Sandbox
from mirror.sandbox.faults import Answered, Stalled
from tests.integration.command import Ended, ended_with, mirror, write_profile
from tests.integration.mirroring import until

_PROJECT = Path(__file__).parents[1]
DELETES: Final = 'on_removed = "delete"\non_unmatched = "delete"'


@dataclass
class Stage:
    """An empty home and a sample server."""

    home: Path
    sandbox: Sandbox

    def profile(self, text: str = "", *, server: str = "", key: str = "", name: str = "") -> Path:
        """Write it; `text` goes into the mirror."""
        return write_profile(
            self.home,
            server or self.sandbox.url,
            key or self.sandbox.api_keys["minimum"],
            text=text,
            name=name or "family",
        )

    async def mirror(self, *args: str) -> Ended:
        """The command as people run it."""
        return await mirror(self.home, *args)

    async def synced(self, text: str = "") -> None:
        """A first run that ends well."""
        self.profile(text)
        ended = await self.mirror("sync", "family")
        assert ended.code == 0, ended.said

    def an_original(self) -> str:
        """The path of one that is mirrored."""
        asset = next(one for one in self.sandbox.library.own() if one.visibility == "timeline")
        return f"/api/assets/{asset.id}/original"


Told = Callable[[Stage], Awaitable[Ended]]
STORIES: Final[list[tuple[ExitCode, Told]]] = []


def ends_with(code: ExitCode) -> Callable[[Told], Told]:
    """Put a story into the list."""

    def add(told: Told) -> Told:
        STORIES.append((code, told))
        return told

    return add


# -- 0 and 1 ---------------------------------------------------------------------------------------


@ends_with(ExitCode.OK)
async def a_run_that_brings_everything(stage: Stage) -> Ended:
    stage.profile()
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.OK)
async def a_plan_with_something_to_do(stage: Stage) -> Ended:
    stage.profile()
    return await stage.mirror("plan", "family")


@ends_with(ExitCode.PARTIAL)
async def one_original_that_is_not_to_be_had(stage: Stage) -> Ended:
    stage.profile()
    stage.sandbox.faults.add(Answered(404), path=stage.an_original())
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.PARTIAL)
async def a_plan_with_something_to_do_that_shall_say_so(stage: Stage) -> Ended:
    stage.profile()
    return await stage.mirror("plan", "family", "--exit-code")


@ends_with(ExitCode.PARTIAL)
async def a_check_of_a_folder_that_lacks_a_file(stage: Stage) -> Ended:
    await stage.synced()
    next(path for path in stage.home.glob("photos/[!.]*/**/*") if path.is_file()).unlink()
    return await stage.mirror("check", "family")


# -- 2 ---------------------------------------------------------------------------------------------


@ends_with(ExitCode.USAGE)
async def an_option_that_does_not_exist(stage: Stage) -> Ended:
    return await stage.mirror("sync", "family", "--no-such-option")


@ends_with(ExitCode.USAGE)
async def a_key_that_no_profile_has(stage: Stage) -> Ended:
    stage.profile("fliter = {}")
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.USAGE)
async def a_profile_that_is_not_there(stage: Stage) -> Ended:
    return await stage.mirror("sync", "famliy")


# -- 3 ---------------------------------------------------------------------------------------------


@ends_with(ExitCode.ACCOUNT)
async def a_server_that_does_not_answer(stage: Stage) -> Ended:
    stage.profile(server="http://no-such-host.invalid")
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.ACCOUNT)
async def a_server_of_an_unknown_kind(stage: Stage) -> Ended:
    version, headers = b'{"major":9,"minor":0,"patch":0}', {"Content-Type": "application/json"}
    stage.sandbox.faults.add(Answered(200, version, headers), path="/api/server/version")
    stage.profile()
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.ACCOUNT)
async def a_server_in_maintenance(stage: Stage) -> Ended:
    stage.sandbox.faults.begin_maintenance()
    stage.profile()
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.ACCOUNT)
async def a_key_that_was_revoked(stage: Stage) -> Ended:
    stage.profile(key="no-key-of-anybody")
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.ACCOUNT)
async def a_key_without_a_permission(stage: Stage) -> Ended:
    stage.sandbox.key("minimum").permissions.remove("asset.read")
    stage.profile()
    return await stage.mirror("sync", "family")


# -- 4 ---------------------------------------------------------------------------------------------


@ends_with(ExitCode.DESTINATION)
async def a_destination_of_another_mirror(stage: Stage) -> Ended:
    await stage.synced()
    stage.profile(name="other")
    return await stage.mirror("sync", "other")


@ends_with(ExitCode.DESTINATION)
async def a_disk_that_is_not_mounted(stage: Stage) -> Ended:
    await stage.synced()
    (stage.home / "photos").rename(stage.home / "unplugged")
    (stage.home / "photos").mkdir()
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.DESTINATION)
async def a_disk_without_room(stage: Stage) -> Ended:
    profile = stage.profile()
    profile.write_text(profile.read_text().replace("min_free = 0", 'min_free = "8000TB"'))
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.DESTINATION)
async def a_file_where_the_destination_should_be(stage: Stage) -> Ended:
    stage.profile()
    (stage.home / "photos").write_text("not a folder")
    return await stage.mirror("sync", "family")


# -- 5 ---------------------------------------------------------------------------------------------


@ends_with(ExitCode.HELD)
async def a_server_that_lists_nothing_any_more(stage: Stage) -> Ended:
    await stage.synced(DELETES)
    library = stage.sandbox.library
    library.trash(*[asset.id for asset in library.own()])
    return await stage.mirror("sync", "family")


@ends_with(ExitCode.HELD)
async def a_folder_that_lost_most_of_its_files(stage: Stage) -> Ended:
    await stage.synced()
    for path in stage.home.glob("photos/[!.]*/**/*"):
        if path.is_file():
            path.unlink()
    return await stage.mirror("sync", "family")


# -- 6 and 8 ---------------------------------------------------------------------------------------


@ends_with(ExitCode.DAMAGED)
async def a_disk_that_rots(stage: Stage) -> Ended:
    await stage.synced()
    path = next(path for path in stage.home.glob("photos/[!.]*/**/*") if path.is_file())
    found = path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return await stage.mirror("verify", "family")


@ends_with(ExitCode.LIMIT)
async def a_verification_without_enough_time(stage: Stage) -> Ended:
    await stage.synced()
    return await stage.mirror("verify", "family", "--budget", "0.000001s")


@ends_with(ExitCode.LIMIT)
async def a_run_that_may_bring_no_more(stage: Stage) -> Ended:
    stage.profile()
    return await stage.mirror("sync", "family", "--max-transfer", "1kB")


# -- 7 and 130 -------------------------------------------------------------------------------------


@ends_with(ExitCode.LOCKED)
async def a_destination_that_another_run_holds(stage: Stage) -> Ended:
    await stage.synced()
    with locked(stage.home / "photos"):
        return await stage.mirror("sync", "family")


@ends_with(ExitCode.INTERRUPTED)
async def a_run_that_is_told_to_stop(stage: Stage) -> Ended:
    stage.profile()
    stage.sandbox.faults.add(Stalled(), path="*/original")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mirror", "sync", "family",
        stdout=PIPE, stderr=PIPE, cwd=stage.home,
        env={"PATH": os.environ["PATH"], "HOME": str(stage.home), "PYTHONPATH": str(_PROJECT)},
    )  # fmt: skip
    await until(lambda: any(request.original_of for request in stage.sandbox.requests))
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    return ended_with(process.returncode, out, err)


# -- several at once -------------------------------------------------------------------------------


@ends_with(ExitCode.DESTINATION)
async def a_bad_key_and_a_bad_destination(stage: Stage) -> Ended:
    """The graver of the two."""
    (stage.home / "file").write_text("not a folder")
    profile = stage.profile()
    profile.write_text(
        f'{profile.read_text()}\n[accounts.gone]\napi_key = {{ file = "{stage.home}/nowhere" }}\n'
        '[mirrors.gone]\naccount = "gone"\n'
        f'[[mirrors.gone.destinations]]\npath = "{stage.home}/gone"\n'
        '[mirrors.blocked]\naccount = "me"\n'
        f'[[mirrors.blocked.destinations]]\npath = "{stage.home}/file"\n'
    )
    text = profile.read_text().replace("[mirrors.all]", '[mirrors.all]\naccount = "me"')
    profile.write_text(text)
    return await stage.mirror("sync", "family")
