"""One mirror split among runs that share nothing but a bucket: each at home on its own machine."""

import asyncio
import hashlib
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import sample
from signal import SIGKILL

import obstore
import pytest

from mirror.core.model import Shard
from mirror.core.shard import number_of
from mirror.destinations.lease import Lease
from mirror.destinations.store import Store
from mirror.sandbox import Sandbox, sample_library
from mirror.sandbox.faults import Stalled
from tests import servers
from tests.integration import starts, test_servers
from tests.integration.command import Ended, ended_with
from tests.integration.starts import Started, environment
from tests.integration.test_buckets import Family, made, tree
from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, Served, served

# All sixteen of them want half a minute of CPU: `MIRROR_SLOW=1`.
COUNT, KILLED = (16, 5) if os.environ.get("MIRROR_SLOW") else (4, 2)
PHOTOS = 40
LAYOUT = 'layout = "{taken:%Y/%m}/{stem}-{id8}"'
KEYS = {"PLANTED_ACCESS_KEY": ACCESS_KEY, "PLANTED_SECRET_KEY": SECRET_KEY}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "store").mkdir()
    with served(tmp_path / "store") as serving:
        yield serving


@pytest.fixture
async def family(store: Served, tmp_path: Path) -> AsyncIterator[Family]:
    async with Sandbox(sample_library(PHOTOS)) as sandbox:
        family = made(sandbox, store, tmp_path)
        family.write(text=LAYOUT)
        yield family


async def started(family: Family, shard: str, *options: str, home: Path | None = None) -> Started:
    """A shard as a process of its own, on a machine of its own."""
    machine = home or family.home / "machines" / shard.replace("/", "-of-")
    return await begun(family.file, machine, shard, *options)


async def begun(profile: Path, machine: Path, shard: str, *options: str) -> Started:
    """The same of any profile."""
    os.makedirs(machine, exist_ok=True)  # noqa: PTH103 (nothing to wait for)
    words = ("-m", "mirror", "sync", str(profile), "--shard", shard, *options)
    environ = environment(machine, **KEYS, PLANTED_PASSWORD=servers.PASSWORD)
    return await starts.started(*words, folder=machine, environ=environ)


async def ended(process: Started) -> Ended:
    out, err = await process.communicate()
    return ended_with(process.returncode, out, err)


async def run_all(family: Family, count: int = COUNT, *, home: Path | None = None) -> list[Ended]:
    """Every shard of a division, all at once."""
    shards = [f"{number}/{count}" for number in range(1, count + 1)]
    processes = [await started(family, shard, home=home) for shard in shards]
    return [await ended(process) for process in processes]


async def unsharded(family: Family) -> dict[str, bytes]:
    """What one run makes of the same mirror elsewhere in the store."""
    family.write(family.destination(url=f"s3://{BUCKET}/whole"), text=LAYOUT)
    await family.synced()
    family.write(text=LAYOUT)
    return family.objects("whole")


def requested(sandbox: Sandbox) -> Counter[str]:
    told = (request.original_of for request in sandbox.requests if request.method == "GET")
    return Counter(asset_id for asset_id in told if asset_id is not None)


def sha1_told(family: Family, path: str) -> str:
    return str(obstore.get(family.store.store("photos"), path).attributes["sha1"])


async def test_shards_side_by_side_make_what_one_run_makes(family: Family):
    whole = await unsharded(family)
    before = requested(family.sandbox)

    runs = await run_all(family)

    assert [run.code for run in runs] == [0] * COUNT, "".join(run.said for run in runs)
    assert family.objects() == whole
    asked = requested(family.sandbox) - before
    assert set(asked) == set(before)
    assert set(asked.values()) == {1}
    for path, data in whole.items():
        assert sha1_told(family, path) == hashlib.sha1(data).hexdigest()
    told = {line["shard"] for run in runs for line in run.events("mirror.end")}
    assert told == {f"{number}/{COUNT}" for number in range(1, COUNT + 1)}


async def test_a_second_run_of_every_shard_asks_for_nothing(family: Family):
    await run_all(family, 2)
    before = family.objects(), requested(family.sandbox)

    runs = await run_all(family, 2)

    assert [run.code for run in runs] == [0] * 2, "".join(run.said for run in runs)
    assert (family.objects(), requested(family.sandbox)) == before


async def test_the_whole_is_checked_and_taken_over_without_a_download(family: Family):
    runs = await run_all(family, 2)
    assert {run.code for run in runs} == {0}, "".join(run.said for run in runs)
    before = family.objects(), requested(family.sandbox)

    checked = await family.run("check", "family")
    assert checked.code == 0, checked.said
    await family.synced()

    assert (family.objects(), requested(family.sandbox)) == before
    sums = bytes(obstore.get(family.store.store("photos"), ".mirror/SHA1SUMS").bytes())
    assert len(sums.splitlines()) == len(before[0])
    assert (await family.run("plan", "family", "--exit-code")).code == 0


async def test_a_check_tells_what_a_shard_has_not_brought_yet(family: Family):
    for shard in ("1/3", "3/3"):
        assert (await ended(await started(family, shard))).code == 0

    checked = await family.run("check", "family", "--combined", "-")

    assert checked.code == 1
    marks = Counter(line[0] for line in checked.out.splitlines() if line[1:2] == " ")
    assert set(marks) == {"=", "+"}
    assert marks["="] == len(family.objects())


def one_of_each(family: Family) -> dict[int, str]:
    """An asset of each shard that has a photo; it may have none in a small library.

    One whose bytes no other has: else it may be copied, and is not asked for.
    """
    assets = family.sandbox.library.assets
    videos = {asset.live_photo_video_id for asset in assets.values()}
    having = Counter(asset.content.sha1 for asset in assets.values())
    return {
        number_of(each, COUNT): each
        for each in requested(family.sandbox)
        if each not in videos and having[assets[each].content.sha1] == 1
    }


async def test_shards_that_are_killed_run_again(family: Family):
    whole = await unsharded(family)
    # On one machine, where a dead process is seen to be dead, and all at first use of its state.
    home = family.home / "machine"
    shards = [f"{number}/{COUNT}" for number in range(1, COUNT + 1)]
    photos = one_of_each(family)
    numbers = sorted(sample(sorted(photos), KILLED))
    faults = family.sandbox.faults
    halts = [faults.add(Stalled(after_bytes=10), asset_id=photos[number]) for number in numbers]
    processes = [await started(family, shard, home=home) for shard in shards]
    waiting = [asyncio.create_task(ended(process)) for process in processes]
    while not all(halt.met for halt in halts):
        await asyncio.sleep(0.01)
        assert not all(task.done() for task in waiting)
    for number in numbers:
        processes[number - 1].kill()
    codes = [(await task).code for task in waiting]
    assert codes == [-SIGKILL if number in numbers else 0 for number in range(1, COUNT + 1)]
    lying = family.objects()
    assert lying.items() < whole.items()
    faults.clear()
    before = requested(family.sandbox)

    # Nothing of the killed ones is left but what they brought: a container is as new each time.
    home = family.home / "another"
    runs = [await started(family, f"{number}/{COUNT}", home=home) for number in numbers]

    assert {(await ended(process)).code for process in runs} == {0}
    assert family.objects() == whole
    assert (requested(family.sandbox) - before).total() <= len(whole) - len(lying)
    assert (await family.run("check", "family")).code == 0
    before = requested(family.sandbox)
    await family.synced()
    assert requested(family.sandbox) == before
    assert family.objects() == whole


async def test_another_number_of_shards_loses_nothing_and_fetches_nothing(family: Family):
    await run_all(family, 2)
    before = family.objects(), requested(family.sandbox)

    runs = await run_all(family, 3)

    assert {run.code for run in runs} == {0}, "".join(run.said for run in runs)
    assert (family.objects(), requested(family.sandbox)) == before


async def test_a_shard_leaves_what_has_left_the_server_and_what_is_not_its_own(family: Family):
    removing = family.destination() + 'on_removed = "delete"\non_unmatched = "delete"\n'
    family.write(removing, text=LAYOUT)
    assert {run.code for run in await run_all(family, 2)} == {0}
    obstore.put(family.store.store("photos"), "2024/mine.txt", b"mine")
    before = family.objects()
    family.write(removing, text=f'{LAYOUT}\nfilter = {{ taken_after = "2100-01-01" }}\n')

    runs = await run_all(family, 2)

    assert family.objects() == before
    assert {run.code for run in runs} <= {0, 5}


async def test_a_shard_and_a_whole_run_keep_out_of_each_others_way(family: Family):
    store = Store(family.store.account("photos"))
    with Lease(store, "another").held():
        refused = await ended(await started(family, "1/2"))
    assert refused.code == 7
    with Lease(store, "another", Shard(1, 2)).held():
        refused = await family.run("sync", "family")
        assert refused.code == 7
        assert f"process {os.getpid()} on " in refused.said
        assert "holds shard 1/2 of it" in refused.said
        assert (await ended(await started(family, "1/2"))).code == 7
        assert (await ended(await started(family, "1/3"))).code == 7
        passed = await ended(await started(family, "2/2"))
        assert passed.code == 0, passed.said


@pytest.mark.parametrize("shard", ["17/16", "a/b", "1/100000", "-1/3"])
async def test_what_is_no_shard_is_a_wrong_use(family: Family, shard: str):
    refused = await ended(await begun(family.file, family.home, shard))

    assert refused.code == 2
    assert "--shard" in refused.err
    assert re.search("K/N|the last is 16/16|at most 99999", refused.err.partition("--shard")[2])


async def test_a_layout_without_an_id_cannot_be_split(family: Family):
    family.write()

    refused = await ended(await started(family, "1/2"))

    assert refused.code == 2
    assert all(word in refused.said for word in ("{id8}", "layout"))
    assert family.objects() == {}


async def test_a_folder_cannot_be_split(family: Family):
    plain = f'[[mirrors.all.destinations]]\npath = "{family.home / "photos"}"\nmin_free = 0\n'
    family.write(plain, family.destination(), text=LAYOUT)

    refused = await ended(await started(family, "1/2"))

    assert refused.code == 2
    assert "is a folder" in refused.said
    assert not (family.home / "photos").exists()
    assert family.objects() == {}


# -- a server by SFTP, which has no metadata and renames -------------------------------------------


@pytest.mark.parametrize("kind", ["openssh", "rclone"])
async def test_shards_fill_a_folder_of_a_server(kind: str, tmp_path: Path):
    (tmp_path / "server").mkdir()
    (tmp_path / "home").mkdir()
    with servers.served(kind, tmp_path / "server") as server:
        async with Sandbox(sample_library(30)) as sandbox:
            family = test_servers.Family(sandbox, server, tmp_path / "home")
            family.write(text=LAYOUT)
            shards = ["1/2", "2/2"]
            file = family.home / ".config/mirror/profiles/family.toml"
            processes = [await begun(file, tmp_path / shard[0], shard) for shard in shards]
            runs = [await ended(process) for process in processes]

            assert {run.code for run in runs} == {0}, "".join(run.said for run in runs)
            assert set(requested(sandbox).values()) == {1}
            before = tree(family.photos), requested(sandbox)
            assert (await family.run("check", "family")).code == 0
            await family.synced()
            assert (tree(family.photos), requested(sandbox)) == before
