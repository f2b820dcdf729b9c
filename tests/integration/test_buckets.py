"""Mirrors into a bucket, served by rclone: whole runs of the command, judged by rclone."""

import asyncio
import errno
import json
import os
import shutil
import sqlite3
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import md5, sha1
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory

import obstore
import pytest

from mirror.core.model import Destination
from mirror.core.secret import LiteralSecret
from mirror.destinations import bucket_site
from mirror.destinations import store as store_module
from mirror.destinations.bucket_site import BucketSite
from mirror.destinations.store import Store, Told
from mirror.errors import UnwritableError
from mirror.sandbox import Sandbox, sample_library
from tests.contract.destinations.places import mounted
from tests.integration.command import Ended, mirror, mirror_anew
from tests.integration.mirroring import NOON, Mirrored, content, of_profile, photos
from tests.integration.starts import Started, environment, started
from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, Served, again, served

URL = f"s3://{BUCKET}/photos"
ANEW = "{taken:%Y}/new-{filename}"


@dataclass
class Family:
    """A server, a store, and a profile with one mirror."""

    sandbox: Sandbox
    store: Served
    home: Path

    @property
    def file(self) -> Path:
        return self.home / ".config/mirror/profiles/family.toml"

    @property
    def beside(self) -> Path:
        """What this machine keeps of the bucket."""
        (found,) = (self.home / ".local/state/mirror/buckets").iterdir()
        return found

    def destination(self, **changed: str) -> str:
        """A destination's table."""
        return self.store.destination(**changed)

    def write(self, *destinations: str, text: str = "") -> None:
        key = self.home / "key"
        key.write_text(self.sandbox.api_keys["minimum"])
        key.chmod(0o600)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(
            f'server = "{self.sandbox.url}"\n[accounts.me]\napi_key = {{ file = "{key}" }}\n'
            f"[mirrors.all]\n{text}\n" + "".join(destinations or [self.destination()])
        )

    async def run(self, *words: str, **environ: str) -> Ended:
        keys = {"PLANTED_ACCESS_KEY": ACCESS_KEY, "PLANTED_SECRET_KEY": SECRET_KEY}
        ended = await mirror(self.home, *words, **keys | environ)
        assert SECRET_KEY not in ended.said
        return ended

    async def synced(self, *options: str) -> Ended:
        ended = await self.run("sync", "family", *options)
        assert ended.code == 0, ended.said
        return ended

    def objects(self, prefix: str = "photos") -> dict[str, bytes]:
        """What lies in the bucket, but for our own state."""
        store = self.store.store(prefix)
        paths = [meta["path"] for batch in obstore.list(store) for meta in batch]
        return {
            path: bytes(obstore.get(store, path).bytes())
            for path in paths
            if not path.startswith(".mirror/")
        }

    def own(self) -> set[str]:
        """Our own objects."""
        store = self.store.store("photos")
        paths = [meta["path"] for batch in obstore.list(store) for meta in batch]
        return {path for path in paths if path.startswith(".mirror/")}

    async def killed_after(self, count: int, pattern: str = "*.jpg", *options: str) -> None:
        """A run that dies when so many photos, called like this, lie in the bucket."""
        process = await self.started(*options)
        lying = self.store.folder / BUCKET / "photos"
        while process.returncode is None:
            if len(list(lying.rglob(pattern))) >= count:
                process.kill()
                break
            await asyncio.sleep(0.001)
        assert await process.wait() == -SIGKILL

    async def started(self, *options: str) -> Started:
        """A run under way."""
        environ = environment(
            self.home, PLANTED_ACCESS_KEY=ACCESS_KEY, PLANTED_SECRET_KEY=SECRET_KEY
        )
        words = ("-m", "mirror", "sync", "family", *options)
        return await started(*words, folder=self.home, environ=environ, out=DEVNULL)

    def originals(self) -> int:
        return sum(request.original_of is not None for request in self.sandbox.requests)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "store").mkdir()
    with served(tmp_path / "store") as serving:
        yield serving


@pytest.fixture
async def family(store: Served, tmp_path: Path) -> AsyncIterator[Family]:
    async with Sandbox(sample_library(30)) as sandbox:
        yield made(sandbox, store, tmp_path)


def made(sandbox: Sandbox, store: Served, folder: Path) -> Family:
    """A home with a profile in it."""
    (folder / "home").mkdir()
    family = Family(sandbox, store, folder / "home")
    family.write()
    return family


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".mirror" not in path.parts
    }


async def test_a_bucket_holds_what_a_folder_would(family: Family):
    folder = family.home / "photos"
    plain = f'[[mirrors.all.destinations]]\npath = "{folder}"\nmin_free = 0\n'
    family.write(plain, family.destination())

    ended = await family.synced()

    expected = tree(folder)
    assert len(expected) > 20
    assert family.objects() == expected
    assert family.originals() == len(expected)
    checked = family.store.rclone(
        *("check", "--exclude", "/.mirror/**", str(folder), f"store:{BUCKET}/photos")
    )
    assert checked.returncode == 0, checked.stderr
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert sum(counts.values()) == 2 * len(expected)


async def test_rclone_reads_times_and_hashes(family: Family):
    await family.synced()
    told = family.store.rclone("lsjson", "-R", "-M", "--files-only", f"store:{BUCKET}/photos")
    listed = {item["Path"]: item for item in json.loads(told.stdout)}
    for path, data in family.objects().items():
        assert listed[path]["Metadata"]["sha1"] == sha1(data).hexdigest()
    with sqlite3.connect(family.beside / ".mirror/index.sqlite3") as index:
        rows = index.execute("SELECT path, mtime_ns FROM asset").fetchall()
    index.close()
    assert len(rows) > 20
    for path, mtime_ns in rows:
        told_ns = datetime.fromisoformat(listed[path.decode()]["ModTime"]).timestamp() * 10**9
        assert told_ns == pytest.approx(mtime_ns, abs=10**6)


async def test_the_second_run_does_nothing(family: Family):
    await family.synced()
    before, own = family.objects(), family.own()
    family.sandbox.requests.clear()
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert set(counts) == {"unchanged"}
    assert family.originals() == 0
    assert family.objects() == before
    assert family.own() == own


async def test_an_index_that_nobody_wrote_to_is_not_copied_again(family: Family):
    await family.synced()
    await family.synced()  # remembers that it is done
    note = family.beside / ".mirror/index.kept"
    before = note.stat().st_mtime_ns
    await family.synced()
    assert note.stat().st_mtime_ns == before


async def test_many_runs_in_a_row_end_with_their_own_exit_code(family: Family):
    await family.synced()
    keys = {"PLANTED_ACCESS_KEY": ACCESS_KEY, "PLANTED_SECRET_KEY": SECRET_KEY}
    for _ in range(10):
        ended = await mirror_anew(family.home, "status", "family", **keys)
        assert ended.code == 0, ended.said


async def test_a_lost_index_comes_back_from_the_bucket(family: Family):
    await family.synced()
    shutil.rmtree(family.home / ".local/state/mirror/buckets")
    before = family.objects()
    family.sandbox.requests.clear()
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert set(counts) == {"unchanged"}
    assert family.originals() == 0
    assert family.objects() == before


async def test_an_index_lost_at_both_ends_is_rebuilt_from_the_listing(family: Family):
    await family.synced()
    shutil.rmtree(family.home / ".local/state/mirror/buckets")
    obstore.delete(family.store.store("photos"), ".mirror/index.sqlite3")
    before = family.objects()
    family.sandbox.requests.clear()
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert set(counts) == {"adopted"}
    assert "verified: 0 %" in (await family.run("status", "family")).out, "nobody has read them"
    assert (await family.run("verify", "family")).code == 0
    assert family.originals() == 0
    assert family.objects() == before
    assert ".mirror/index.sqlite3" in family.own()


def another_programs() -> bytes:
    with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/a")) as database:
        database.execute("CREATE TABLE thumbnails (id, image)")
        database.commit()
        return Path(folder, "a").read_bytes()


@pytest.mark.parametrize("left", [None, b"", b"what nobody of ours wrote", another_programs()])
async def test_what_only_the_bucket_lost_comes_back_from_here(family: Family, left: bytes | None):
    await family.synced()
    before, own = family.objects(), family.own()
    store = family.store.store("photos")
    for lost in ("index.sqlite3", "SHA1SUMS"):
        obstore.delete(store, f".mirror/{lost}")
        if left is not None:
            obstore.put(store, f".mirror/{lost}", left)
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert set(counts) == {"unchanged"}
    assert [line["path"] for line in ended.events("manifest.lost")] == [".mirror/SHA1SUMS"]
    assert (family.objects(), family.own()) == (before, own)
    shutil.rmtree(family.home / ".local/state/mirror/buckets")
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert set(counts) == {"unchanged"}, "that copy is as good as the first one"


async def test_an_older_copy_of_the_index_does_not_replace_what_came_after_it(family: Family):
    await family.synced()
    store, path = family.store.store("photos"), ".mirror/index.sqlite3"
    older = bytes(obstore.get(store, path).bytes())
    gone = family.sandbox.library.upload("gone.jpg", content("gone"), taken_at=NOON)
    await family.synced()
    family.sandbox.library.trash(gone.id)
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert counts["retained"] == 1
    obstore.put(store, path, older)
    await family.synced()
    ended = await family.run("check", "family", "--json")
    (told,) = json.loads(ended.out)
    assert [found["why"] for found in told["missing_on_src"]] == ["retained"]
    assert bytes(obstore.get(store, path).bytes()) != older


async def test_what_somebody_changed_is_brought_back_and_kept(family: Family):
    await family.synced()
    before = family.objects()
    lost, drifted, *_ = sorted(before)
    outside = family.store.store("photos")
    obstore.delete(outside, lost)
    obstore.put(outside, drifted, b"edited")
    await family.synced()
    assert family.objects() == before
    kept = [path for path in family.own() if path.startswith(".mirror/quarantine/")]
    assert [bytes(obstore.get(outside, path).bytes()) for path in kept] == [b"edited"]

    listed = await family.run("quarantine", "list", "family")
    assert drifted in listed.out
    assert listed.code == 0
    restored = await family.run("quarantine", "restore", "family", drifted)
    assert restored.code == 0, restored.said
    assert sorted(family.objects().values()) == sorted([*before.values(), b"edited"])


async def test_photos_move_with_the_layout(family: Family):
    await family.synced()
    before = family.objects()
    family.write(family.destination(), text='layout = "{taken:%Y}/{id8}-{filename}"')
    family.sandbox.requests.clear()
    await family.synced()
    after = family.objects()
    assert sorted(after.values()) == sorted(before.values())
    assert not set(after) & set(before)
    assert family.originals() == 0


async def test_check_verify_and_status_know_a_bucket(family: Family):
    await family.synced()
    for command in (["check"], ["verify"], ["status"]):
        ended = await family.run(*command, "family")
        assert ended.code == 0, ended.said
    assert URL in (await family.run("status", "family")).out
    assert "free" not in (await family.run("status", "family")).out, "that of this machine"


async def test_an_object_that_rotted_is_found_and_brought_back(family: Family):
    await family.synced()
    before = family.objects()
    path = min(before)
    outside = family.store.store("photos")
    mtime = str(obstore.get(outside, path).attributes["mtime"])
    obstore.put(outside, path, bytes(len(before[path])), attributes={"mtime": mtime})
    ended = await family.run("verify", "family")
    assert ended.code == 6, ended.said
    assert path in ended.out
    repaired = await family.run("verify", "family", "--repair")
    assert repaired.code == 0, repaired.said
    assert family.objects() == before


async def test_a_store_that_dies_in_the_middle_is_caught_up_by_the_next_run(
    store: Served, tmp_path: Path
):
    async with Sandbox(photos(100)) as sandbox:
        family = made(sandbox, store, tmp_path)
        folder = tmp_path / "photos"
        plain = f'[[mirrors.all.destinations]]\npath = "{folder}"\nmin_free = 0\n'
        family.write(family.destination(), plain)
        running = asyncio.create_task(family.run("sync", "family"))
        while len(list((store.folder / BUCKET).rglob("*.jpg"))) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        store.process.kill()
        ended = await running
        assert ended.code == 4, ended.said
        assert "Traceback" not in ended.said
        assert len(tree(folder)) == 100
        with again(store) as restarted:
            back = Family(sandbox, restarted, family.home)
            await back.synced()
            assert back.objects() == tree(folder)
        assert family.originals() == 100


async def test_a_key_that_is_not_there_is_said_with_what_to_do(family: Family):
    given = family.destination().replace('env = "PLANTED_SECRET_KEY"', 'file = "/nowhere/key"')
    family.write(given)
    ended = await family.run("sync", "family")
    assert ended.code == 4, ended.said
    assert "no key could be read from the file /nowhere/key" in ended.said
    assert "put it there, where this user can read it" in ended.said


async def test_refused_keys_are_said_in_words(family: Family):
    ended = await family.run("sync", "family", PLANTED_SECRET_KEY="wrong-secret-key")
    assert ended.code == 4, ended.said
    assert "the store refuses the keys" in ended.said
    assert "Traceback" not in ended.said
    assert "wrong-secret-key" not in ended.said


async def test_a_bucket_that_is_not_there_is_said_in_words(family: Family):
    family.write(family.destination(url="s3://nobodys/photos"))
    ended = await family.run("sync", "family")
    assert ended.code == 4, ended.said
    assert "no such bucket" in ended.said


async def test_a_dead_store_holds_up_no_other_destination(family: Family):
    folder = family.home / "photos"
    plain = f'[[mirrors.all.destinations]]\npath = "{folder}"\nmin_free = 0\n'
    family.write(family.destination(), plain)
    family.store.process.kill()
    family.store.process.wait()
    ended = await family.run("sync", "family")
    assert ended.code == 4, ended.said
    assert f"no connection to {family.store.endpoint}: Connection refused" in ended.said
    assert len(tree(folder)) == family.originals() > 20


async def test_keys_come_from_the_usual_environment_too(family: Family):
    given = family.destination()
    lines = [line for line in given.splitlines(keepends=True) if "_key =" not in line]
    family.write("".join(line for line in lines if not line.startswith(("endpoint", "region"))))
    ended = await family.run(
        *("sync", "family"),
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_ENDPOINT_URL=family.store.endpoint,
        AWS_REGION="us-east-1",
    )
    assert ended.code == 0, ended.said
    assert len(family.objects()) > 20


async def test_a_prefix_inside_another_destination_is_refused(family: Family):
    await family.synced()
    family.write(family.destination(url=f"{URL}/inside"))
    ended = await family.run("sync", "family", "--rebind")
    assert ended.code == 4, ended.said
    assert "inside another destination" in ended.said


@pytest.mark.parametrize("words", [["sync"], ["status"], ["profile", "check"]])
async def test_without_the_extra_it_says_what_to_install(family: Family, words: list[str]):
    hidden = family.home / "hidden" / "obstore"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text('raise ImportError("no obstore here")')
    path = f"{hidden.parent}{os.pathsep}{Path(__file__).parents[2]}"
    ended = await family.run(*words, "family", PYTHONPATH=path)
    assert ended.code == 4, ended.said
    assert "uv tool install '.[s3]'" in ended.said
    assert "in order" not in ended.said
    assert "Traceback" not in ended.said


async def test_a_killed_run_is_finished_by_the_next(store: Served, tmp_path: Path):
    library = photos(200)
    async with Sandbox(library) as sandbox:
        family = made(sandbox, store, tmp_path)
        for uploads in (1, 20, 90, 150):
            await family.killed_after(uploads)
        await family.synced()
        folder = tmp_path / "photos"
        family.write(
            family.destination(),
            f'[[mirrors.all.destinations]]\npath = "{folder}"\nmin_free = 0\n',
        )
        await family.synced()
    assert family.objects() == tree(folder)
    assert len(tree(folder)) == 200
    assert list((family.beside / ".mirror/partial").iterdir()) == []


async def test_moves_that_were_cut_in_the_middle_leave_one_of_each(store: Served, tmp_path: Path):
    async with Sandbox(photos(60)) as sandbox:
        family = made(sandbox, store, tmp_path)
        await family.synced()
        before = family.objects()
        family.write(family.destination(), text='layout = "{taken:%Y}/new-{filename}"')
        for count in (1, 15, 40):
            await family.killed_after(count, "new-*.jpg")
            lying = family.objects()
            assert set(before.values()) <= set(lying.values())
        family.sandbox.requests.clear()
        await family.synced()
        after = family.objects()
    assert family.originals() == 0
    assert sorted(after.values()) == sorted(before.values())
    assert all(path.startswith("2020/new-") for path in after)
    own = [path for path in family.own() if "/moving/" in path or "/quarantine/" in path]
    assert own == []


def bucket_of(family: Family, kind: type[Store], monkeypatch: pytest.MonkeyPatch) -> Mirrored:
    """Its mirror in this process, by way of such a store."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(family.home / ".local/state"))
    monkeypatch.setattr(bucket_site, "Store", kind)
    place = Destination(
        path=URL,
        endpoint=family.store.endpoint,
        region="us-east-1",
        access_key=LiteralSecret(ACCESS_KEY),
        secret_key=LiteralSecret(SECRET_KEY),
    )
    return replace(of_profile(family.home, family.sandbox), site=BucketSite(place))


def moving(family: Family, kind: type[Store], monkeypatch: pytest.MonkeyPatch) -> Mirrored:
    """The same with another layout than before: every photo is to move."""
    mirror_of = bucket_of(family, kind, monkeypatch)
    mirror_of.layout(ANEW)
    return mirror_of


@pytest.mark.parametrize("what", ["copies", "deletes"])
async def test_a_store_that_denies_what_it_has_gets_no_photo_twice(
    store: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    given, denials = set[str](), Counter[str]()

    class Denying(Store):
        def copy(self, source: str, path: str) -> None:
            super().copy(source, path)
            given.add(path)

        def head(self, path: str) -> Told:
            if what == "copies" and path in given:
                raise denied(path)
            return super().head(path)

        def delete(self, path: str) -> None:
            if what == "deletes" and path.endswith(".jpg") and denials[path] < 2:
                denials[path] += 1
                raise denied(path)
            super().delete(path)

    async with Sandbox(photos(20)) as sandbox:
        family = made(sandbox, store, tmp_path)
        await bucket_of(family, Store, monkeypatch).synced()
        before = family.objects()
        run = await moving(family, Denying, monkeypatch).run()
        assert len(run.report.failures) == (20 if what == "copies" else 0)
        await moving(family, Store, monkeypatch).synced()
    after = family.objects()
    assert sorted(after.values()) == sorted(before.values())
    assert all(path.startswith("2020/new-IMG_") for path in after)


def denied(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "No such file or directory", path)


async def test_a_store_that_dies_and_forgets_in_the_middle_of_moves_has_one_of_each(
    store: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """rclone keeps what is written beside an object only as long as it runs."""

    class Dying(Store):
        def delete(self, path: str) -> None:
            if path.endswith("7.jpg"):
                store.process.kill()
                store.process.wait()
            super().delete(path)

    monkeypatch.setattr(store_module, "_RETRIES", {"max_retries": 0})
    async with Sandbox(photos(20)) as sandbox:
        family = made(sandbox, store, tmp_path)
        await bucket_of(family, Store, monkeypatch).synced()
        before = family.objects()
        dying = moving(family, Dying, monkeypatch)
        with pytest.raises(UnwritableError, match="cannot be used as a destination"):
            await dying.run()
        with again(store) as restarted:
            back = Family(sandbox, restarted, family.home)
            halfway = back.objects()
            assert len(halfway) > len(before), "else nothing was cut"
            for lease in back.own():
                if lease.startswith(".mirror/locks/"):  # of this process, which is alive
                    obstore.delete(restarted.store("photos"), lease)
            sandbox.requests.clear()
            await moving(back, Store, monkeypatch).synced()
            after = back.objects()
    assert sorted(after.values()) == sorted(before.values())
    assert all(path.startswith("2020/new-IMG_") for path in after)
    assert family.originals() == 0


async def test_replacements_that_were_cut_in_the_middle_keep_both(store: Served, tmp_path: Path):
    async with Sandbox(photos(60)) as sandbox:
        family = made(sandbox, store, tmp_path)
        await family.synced()
        before = family.objects()
        outside = store.store("photos")
        allowed = ("--allow-removed", "60", "--allow-lost", "60")
        for number, path in enumerate(sorted(before)):
            obstore.put(outside, path, f"edited {number}".encode())
        for count in (1, 15, 40):
            await family.killed_after(count, ".mirror/quarantine/**/*.jpg", *allowed)
        await family.synced(*allowed)
        assert family.objects() == before
        kept = [path for path in family.own() if path.startswith(".mirror/quarantine/")]
        # Killed between a copy and its delete, one may be there twice.
        held = {bytes(obstore.get(outside, path).bytes()) for path in kept}
        assert held == {f"edited {number}".encode() for number in range(60)}


async def test_a_full_store_is_told_and_the_next_run_finishes(tmp_path: Path):
    with mounted("ext4", tmp_path) as disk, served(disk / "store") as store:
        full = disk / "full"
        async with Sandbox(photos(40, size_bytes=100_000)) as sandbox:
            family = made(sandbox, store, tmp_path)
            assert (await family.run("sync", "family", "--max-transfer", "1")).code == 8
            free_bytes = shutil.disk_usage(disk).free
            full.write_bytes(bytes(free_bytes - 2_000_000))
            ended = await family.run("sync", "family")
            assert ended.code == 4, ended.said
            assert "Traceback" not in ended.said
            arrived = family.objects()
            assert all(len(data) == 100_000 for data in arrived.values())
            assert len(arrived) < 40
            full.unlink()
            await family.synced()
            assert len(family.objects()) == 40


async def test_another_machines_run_is_not_disturbed(family: Family):
    await family.synced()
    holder = json.dumps({"pid": 1, "host": "elsewhere", "boot": "x", "since": "today"}).encode()
    outside = family.store.store("photos")
    obstore.put(outside, ".mirror/locks/theirs", holder)
    ended = await family.run("sync", "family")
    assert ended.code == 7, ended.said
    assert "process 1 on elsewhere, since today" in ended.said
    assert (await family.run("plan", "family")).code == 7

    # By the server's clock, which rclone lets be set like this, it is over.
    obstore.put(outside, ".mirror/locks/theirs", holder, attributes={"mtime": "1500000000"})
    await family.synced()
    assert not [path for path in family.own() if path.startswith(".mirror/locks/")]


async def test_a_hold_that_the_store_dates_in_the_future_is_said_to_be_and_hides_nobody(
    family: Family,
):
    await family.synced()
    holder = json.dumps({"pid": 1, "host": "elsewhere", "boot": "x", "since": "today"}).encode()
    outside = family.store.store("photos")
    obstore.put(outside, ".mirror/locks/ahead", holder, attributes={"mtime": "4000000000"})
    for command in ("sync", "plan"):
        ended = await family.run(command, "family")
        assert ended.code == 7, ended.said
        assert "dated in the future" in ended.said
        assert "remove .mirror/locks/ahead" in ended.said
    obstore.put(outside, ".mirror/locks/living", holder)
    assert (await family.run("sync", "family")).code == 7
    assert {".mirror/locks/ahead", ".mirror/locks/living"} <= family.own()


async def test_what_is_no_hold_of_ours_holds_nobody_up_and_stays(family: Family):
    await family.synced()
    outside = family.store.store("photos")
    junk = {
        ".mirror/locks/.DS_Store": b"Bud1",
        ".mirror/locks/notes.txt": b"",
        ".mirror/locks/l": b"[1]",
    }
    for path, data in junk.items():
        obstore.put(outside, path, data)
    assert (await family.run("plan", "family")).code == 0
    await family.synced()
    assert set(junk) <= family.own()
    obstore.put(outside, ".mirror/locks/0b3c5a52-2a39-4f1a-9f4e-4f6f0f6a7a11", b"")  # half written
    assert (await family.run("sync", "family")).code == 7


async def test_a_bucket_around_another_mirror_is_refused_before_a_run(family: Family):
    await family.synced()
    family.write(family.destination(url=f"s3://{BUCKET}"))
    ended = await family.run("profile", "check", "family", "--online")
    assert ended.code == 4, ended.said
    assert "not-ours" in ended.said


async def test_a_name_with_a_control_character_is_refused_with_what_helps(family: Family):
    own = family.sandbox.library.own()
    photo = next(asset for asset in own if asset.original_file_name.endswith(".jpg"))
    family.sandbox.library.rename(photo.id, "a\nb.jpg")
    family.write(text='names = "posix"\nlayout = "{filename}"')
    ended = await family.run("sync", "family")
    assert ended.code == 1, ended.said
    (failed,) = (line for line in ended.events("asset.failed") if line["asset_id"] == photo.id)
    assert failed["error.message"].startswith("a\\nb.jpg: ")
    assert 'names = "portable"' in failed["error.hint"]
    assert "obstore" not in ended.said
    assert "a; b.jpg" not in ended.said


async def test_two_machines_take_turns(family: Family):
    await family.synced()
    other = Family(family.sandbox, family.store, family.home.with_name("other"))
    other.home.mkdir()
    other.write(family.destination(), text='layout = "{taken:%Y}/{filename}"')
    await other.synced()
    family.write(family.destination(), text='layout = "{taken:%Y}/{filename}"')
    family.sandbox.requests.clear()
    ended = await family.synced()
    (counts,) = (line["counts"] for line in ended.events("run.end"))
    assert set(counts) == {"unchanged"}
    assert family.originals() == 0


async def test_two_machines_at_once_are_never_in_a_whole_bucket_together(family: Family):
    other = Family(family.sandbox, family.store, family.home.with_name("other"))
    other.home.mkdir()
    url = f"s3://{BUCKET}"
    for year in range(3):
        for one in (family, other):
            text = f'layout = "{year}/{{id8}}-{{filename}}"'
            one.write(one.destination(url=url), text=text)
        ended = await asyncio.gather(*(one.run("sync", "family") for one in (family, other)))
        assert {one.code for one in ended} <= {0, 7}, [one.said for one in ended]
    assert (await family.run("sync", "family")).code == 0
    found = family.objects("")
    assert len(found) > 20
    assert all(path.startswith("2/") for path in found)
    assert family.originals() == len(found)


async def test_a_large_original_comes_in_parts(store: Served, tmp_path: Path):
    size_bytes = (20 << 20) + 12_345
    async with Sandbox(photos(1, size_bytes=size_bytes)) as sandbox:
        family = made(sandbox, store, tmp_path)
        await family.synced()
    ((path, data),) = family.objects().items()
    assert len(data) == size_bytes
    told = store.rclone(
        "lsjson", "-M", "--hash", "-R", "--files-only", f"store:{BUCKET}/photos/2020"
    )
    (listed,) = json.loads(told.stdout)
    assert listed["Metadata"]["sha1"] == sha1(data).hexdigest()
    assert listed["Hashes"]["md5"] == md5(data).hexdigest()
    assert path.startswith("2020/")
