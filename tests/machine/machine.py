"""What may happen, one rule each; hypothesis chooses, and shortens what went wrong."""

import asyncio
import functools
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mirror.core.model import OnGone
from mirror.sandbox.disasters import Backup, back_up, go_back, reinstall
from mirror.sandbox.records import StoredAsset
from tests.integration.mirroring import whole
from tests.machine import troubles
from tests.machine.checking import Checker
from tests.machine.leaving import Policies
from tests.machine.model import LAYOUTS, NAMES, SELECTIONS, TODAY, base_of
from tests.machine.verifying import verify
from tests.machine.world import Seeming, World

which = st.integers(0, 11)
some_days = st.integers(0, 14)
names = st.sampled_from([name for name in NAMES if name != "v.mov"])
SHM = Path("/dev/shm")


def _at(days: int) -> datetime:
    return TODAY - timedelta(days=days)


def step(**arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule that is counted, and after whose failure nothing is checked any more."""

    def made(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def stepping(self: "Machine", **drawn: Any) -> None:
            self.seeming.steps += 1
            self.seeming.rules[function.__name__] += 1
            self.world.tick()
            self.failed = True
            function(self, **drawn)
            self.failed = False

        return rule(**arguments)(stepping)

    return made


class Machine(RuleBasedStateMachine):
    """A family, their server, their disk and a mirror."""

    seeming: ClassVar[Seeming] = Seeming()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        self.runner = asyncio.Runner()
        self.world = World(self.folder, self.runner, self.seeming)
        self.checker = Checker(self.world)
        self.backup: Backup | None = None
        self.begun = False
        self.failed = False

    @initialize(
        version=st.sampled_from(["3.1.0", "2.7.5"]),
        transfers=st.sampled_from([1, 1, 4]),
        on_removed=st.sampled_from(OnGone),
        on_unmatched=st.sampled_from(OnGone),
        quarantine_days=st.sampled_from([30, 2]),
        photos=st.integers(0, 5),
    )
    def begin(
        self,
        *,
        version: str,
        transfers: int,
        on_removed: OnGone,
        on_unmatched: OnGone,
        quarantine_days: int,
        photos: int,
    ) -> None:
        policies = Policies(on_removed, on_unmatched)
        self.world.begin(version, transfers, policies, quarantine_days=quarantine_days)
        for number in range(photos):
            self.world.library.upload("a.jpg", self.world.fresh(), taken_at=_at(number))
        self.begun = True

    def teardown(self) -> None:
        try:
            if self.begun and not self.failed:
                self.checker.check()
                self.at_end()
        finally:
            if self.begun:
                self.world.end()
            self.runner.close()
            shutil.rmtree(self.folder)

    def at_end(self) -> None:
        """What others may add to the end of a history."""

    # -- on the server -----------------------------------------------------------------------------

    def asset(self, number: int) -> StoredAsset | None:
        found = list(self.world.library.assets.values())
        return found[number % len(found)] if found else None

    @step(name=names, days=some_days, favorite=st.booleans())
    def upload(self, *, name: str, days: int, favorite: bool) -> None:
        self.world.library.upload(
            name, self.world.fresh(), taken_at=_at(days), is_favorite=favorite
        )

    @step(name=names, days=some_days)
    def upload_live_photo(self, name: str, days: int) -> None:
        library = self.world.library
        video = library.upload("v.mov", self.world.fresh(), taken_at=_at(days))
        still = library.upload(name, self.world.fresh(), taken_at=_at(days))
        library.link_live_photo(still.id, video.id)

    @step(number=which, theirs=st.booleans(), same=st.booleans())
    def upload_as(self, *, number: int, theirs: bool, same: bool) -> None:
        """By the partner or oneself, perhaps the bytes that are there already."""
        asset, library = self.asset(number), self.world.library
        (_, partner_id) = library.users
        content = asset.content if asset is not None and same else self.world.fresh()
        library.upload(
            "a.jpg", content, taken_at=_at(1), owner_id=partner_id if theirs else library.owner_id
        )

    @step(number=which, name=names)
    def rename(self, number: int, name: str) -> None:
        asset = self.unsettled(number)
        if asset is not None and asset.original_file_name != "v.mov":
            self.world.library.rename(asset.id, name)

    @step(number=which, days=some_days, hours=st.integers(-12, 14))
    def redate(self, number: int, days: int, hours: int) -> None:
        if asset := self.unsettled(number):
            self.world.library.redate(asset.id, _at(days), offset=timedelta(hours=hours))

    @step(number=which)
    def replace(self, number: int) -> None:
        if asset := self.unsettled(number):
            self.world.library.replace(asset.id, self.world.fresh(asset.content.size_bytes))

    @step(number=which, on=st.booleans())
    def favorite(self, *, number: int, on: bool) -> None:
        if asset := self.asset(number):
            self.world.library.favorite(asset.id, on=on)

    @step(number=which, visibility=st.sampled_from(["archive", "timeline", "locked", "hidden"]))
    def show(self, number: int, visibility: str) -> None:
        if asset := self.unsettled(number):
            self.world.library.set_visibility(visibility, asset.id)

    @step(number=which)
    def trash(self, number: int) -> None:
        if asset := self.asset(number):
            self.world.library.trash(asset.id)

    @step(number=which)
    def restore(self, number: int) -> None:
        if asset := self.asset(number):
            self.world.library.restore(asset.id)

    @step(number=which)
    def delete(self, number: int) -> None:
        if asset := self.asset(number):
            self.world.library.delete(asset.id)

    @step(on=st.booleans(), shared=st.booleans())
    def toggle_partner(self, *, on: bool, shared: bool) -> None:
        library = self.world.library
        (me_id, partner_id) = library.users
        if shared:
            library.share(partner_id, me_id, in_timeline=on)
        else:
            library.unshare(partner_id, me_id)

    @step()
    def back_up(self) -> None:
        self.backup = back_up(self.world.library)

    @step()
    def restore_database(self) -> None:
        if self.backup is not None:
            go_back(self.world.library, self.backup)
            self.world.may_be_stale = True
            self.checker.unsettled = self.checker.server_changed = True

    @step()
    def reinstall(self) -> None:
        reinstall(self.world.library)
        self.backup = None  # of another server
        self.checker.unsettled = self.checker.server_changed = True

    @step(hours=st.sampled_from([-9000, -20, 0, 20, 9000]))
    def jump(self, hours: int) -> None:
        """The server's clock is wrong by so much; 0 sets it right."""
        self.world.set_clock(timedelta(hours=hours))

    @step(days=st.sampled_from([1, 3, 40]))
    def wait(self, days: int) -> None:
        self.world.tick(timedelta(days=days))

    def unsettled(self, number: int) -> StoredAsset | None:
        """An asset that is about to change, and with it perhaps its path and its video's."""
        asset = self.asset(number)
        if asset is not None:
            self.checker.restless |= {asset.id, asset.live_photo_video_id or asset.id}
        return asset

    # -- in the profile ----------------------------------------------------------------------------

    @step(layout=st.sampled_from(list(LAYOUTS)))
    def edit_layout(self, layout: str) -> None:
        self.world.layout = layout
        self.checker.unsettled = True

    @step(selection=st.sampled_from(list(SELECTIONS)))
    def edit_filter(self, selection: str) -> None:
        self.world.selection = selection

    # -- in the folder -----------------------------------------------------------------------------

    def file(self, number: int) -> str | None:
        found = self.world.hands.files()
        return found[number % len(found)] if found else None

    def place(self, number: int, name: str) -> str:
        """Where an asset may want to be; or a path of some name and day."""
        asset = self.asset(number)
        if number % 3 and asset is not None:
            return base_of(asset, self.world.layout)
        return f"{_at(number):%Y/%m/%d}/{NAMES[name]}"

    @step(number=which)
    def lose_file(self, number: int) -> None:
        if path := self.file(number):
            self.world.hands.lose(path)

    @step(number=which)
    def edit_file(self, number: int) -> None:
        if path := self.file(number):
            self.world.hands.write(path, self.world.fresh())

    @step(number=which)
    def touch_file(self, number: int) -> None:
        if path := self.file(number):
            self.world.hands.touch(path)

    @step(number=which)
    def move_file(self, number: int) -> None:
        if path := self.file(number):
            self.world.hands.move(path)

    @step(number=which, name=names)
    def put_file(self, number: int, name: str) -> None:
        self.world.hands.write(self.place(number, name), self.world.fresh())

    @step(number=which, other=which, name=names)
    def put_copy(self, number: int, other: int, name: str) -> None:
        """The bytes of an asset, perhaps at its own name."""
        if asset := self.asset(number):
            data = b"".join(asset.content.read(0, asset.content.size_bytes))
            self.world.hands.write(self.place(other, name), data)

    @step(number=which, name=names)
    def put_folder(self, number: int, name: str) -> None:
        self.world.hands.make_folder(self.place(number, name))

    @step(number=which, name=names)
    def put_link(self, number: int, name: str) -> None:
        self.world.hands.link(self.place(number, name))

    @step()
    def lose_index(self) -> None:
        for file in self.world.me.root.glob(".mirror/index.sqlite3*"):
            file.unlink()
        self.checker.forget()

    # -- troubles and runs -------------------------------------------------------------------------

    @step(
        name=st.sampled_from(list(troubles.EFFECTS)),
        place=st.sampled_from(list(troubles.PLACES)),
        skip=st.integers(0, 9),
        times=st.sampled_from([1, 2, 5, None]),
    )
    def answers_go_wrong(self, name: str, place: str, skip: int, times: int | None) -> None:
        troubles.strike(self.world.sandbox, name, place, skip=skip, times=times)
        self.world.troubles.append(f"{name} at {place}")

    @step(name=st.sampled_from(list(troubles.CHANGES)), skip=st.integers(0, 20))
    def server_goes_wrong(self, name: str, skip: int) -> None:
        troubles.befall(self.world.sandbox, name, skip=skip)
        self.world.troubles.append(name)

    @step(name=st.sampled_from(list(troubles.ROWS)), number=which)
    def row_goes_wrong(self, name: str, number: int) -> None:
        if asset := self.asset(number):
            troubles.ROWS[name](self.world.sandbox, asset.id)
            self.world.troubles.append(name)

    @step()
    def sync(self) -> None:
        """With whatever is wrong."""
        self.world.run_unchecked()

    @step(at=st.integers(1, 60))
    def kill(self, at: int) -> None:
        self.world.run_unchecked(die_at=at)

    @step()
    def plan(self) -> None:
        before = whole(self.world.me.root) if self.world.me.root.exists() else {}
        self.world.run(dry=True)
        after = whole(self.world.me.root) if self.world.me.root.exists() else {}
        assert after == before

    @step(number=st.none() | which, repair=st.booleans())
    def verify(self, *, number: int | None, repair: bool) -> None:
        """Perhaps after a file has rotted."""
        verify(self.world, number, repair=repair)

    @step()
    def mend(self) -> None:
        self.world.mend()

    def _check(self) -> None:
        self.checker.check()

    # Rules are drawn alike, and this one is worth more than one in forty.
    check = step()(_check)
    check_at_night = step()(_check)
