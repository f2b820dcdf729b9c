"""What stores promise and do not keep, and what a bucket makes of it."""

import errno
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import obstore
import pytest

from mirror.core.model import EntryKind, Shard
from mirror.destinations import MARKER, PARTIAL, STATE, lock, partial
from mirror.destinations.bucket import Bucket
from mirror.destinations.lock import this_process
from mirror.destinations.store import PART_BYTES, Account, Store, Told
from mirror.errors import LockedError, UnwritableError
from tests.contract.destinations.places import BucketHands
from tests.stores import Served, again, served

NAME = "s3://bucket/some"


class Rotting(Store):
    """Keeps other bytes than it was given."""

    def put(
        self, path: str, data: bytes, metadata: Mapping[str, str], *, create: bool = False
    ) -> str:
        return super().put(path, data[:-1] + b"!", metadata, create=create)

    def put_parts(
        self, path: str, pieces: Iterator[bytes], part_bytes: int, metadata: Mapping[str, str]
    ) -> str:
        rotten = (piece[:-1] + b"!" for piece in pieces)
        return super().put_parts(path, rotten, part_bytes, metadata)


class Encrypting(Store):
    """Has ETags that say nothing of the bytes."""

    def put(
        self, path: str, data: bytes, metadata: Mapping[str, str], *, create: bool = False
    ) -> str:
        super().put(path, data, metadata, create=create)
        return "of its own"


class Forgetful(Store):
    """Copies without what was written beside an object."""

    def copy(self, source: str, path: str) -> None:
        super().put(path, b"".join(self.pieces(source)), {})


class Silent(Store):
    """Lists nothing: what answers a listing with a web page says as much."""

    def listed(self, folder: str = "") -> Iterator[Told]:  # noqa: ARG002
        return iter(())


class Honest(Store):
    """Refuses to overwrite when it is asked to; somebody is always a moment faster."""

    def put(
        self, path: str, data: bytes, metadata: Mapping[str, str], *, create: bool = False
    ) -> str:
        if create:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        return super().put(path, data, metadata)


@pytest.fixture(scope="module", params=["rclone", pytest.param("ceph", marks=pytest.mark.ceph)])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    if request.param == "ceph":
        yield request.getfixturevalue("ceph")
        return
    with served(tmp_path_factory.mktemp("store")) as serving:
        yield serving


def made(kind: type[Store], store: Served, folder: Path) -> Bucket:
    bucket = Bucket(kind(store.account(folder.name)), NAME, folder / "beside")
    bucket.prepare()
    return bucket


def bring(bucket: Bucket, path: str, data: bytes) -> None:
    with closing(bucket.open_partial("1")) as new:
        new.write(data)
        new.finish(10**18)
    bucket.move(partial("1"), path)


@pytest.mark.parametrize("size_bytes", [4, PART_BYTES + 1])
def test_what_a_store_garbles_never_has_a_name(store: Served, tmp_path: Path, size_bytes: int):
    with made(Rotting, store, tmp_path) as bucket:
        with pytest.raises(OSError, match="other bytes than it was given"):
            bring(bucket, "a.jpg", bytes(size_bytes))
        assert bucket.entry("a.jpg") is None
        assert bucket.work_files(PARTIAL) == ["1"]
        assert not bucket.probe().checksums


@pytest.mark.parametrize("size_bytes", [4, PART_BYTES + 1])
def test_what_this_machines_disk_garbles_never_has_a_name(
    store: Served, tmp_path: Path, size_bytes: int
):
    data = bytes(size_bytes)
    with made(Store, store, tmp_path) as bucket:
        with closing(bucket.open_partial("1")) as new:
            new.write(data)
            new.finish(10**18, hashlib.sha1(data).digest())
        waiting = tmp_path / "beside" / partial("1")
        waiting.write_bytes(data[:-1] + b"!")
        with pytest.raises(OSError, match="other bytes than it was given"):
            bucket.move(partial("1"), "a.jpg")
        assert bucket.entry("a.jpg") is None
        # Whoever takes it up again reads it, and finds out.
        with closing(bucket.open_partial("1")) as again:
            found = b"".join(iter(again.read, b""))
        assert found != data


def test_a_listing_without_the_marker_is_not_all_of_it(store: Served, tmp_path: Path):
    """Else everything would be taken for lost."""
    with made(Store, store, tmp_path) as bucket:
        bucket.write_state(MARKER, [b"{}"])
        bring(bucket, "a.jpg", b"a")
        assert len(list(bucket.scan())) == 1
    with made(Silent, store, tmp_path) as bucket:
        with pytest.raises(UnwritableError, match="is not all of it"):
            list(bucket.scan())
        with pytest.raises(UnwritableError, match="is not all of it"):
            bucket.check_alone()


@pytest.mark.parametrize("size_bytes", [4, PART_BYTES + 1])
def test_what_an_earlier_run_left_is_summed_when_it_is_read(
    store: Served, tmp_path: Path, size_bytes: int
):
    data = bytes(size_bytes)
    with made(Store, store, tmp_path) as bucket, closing(bucket.open_partial("1")) as new:
        new.write(data[:-2])
    with made(Store, store, tmp_path) as bucket:
        with closing(bucket.open_partial("1")) as new:
            assert sum(map(len, iter(new.read, b""))) == size_bytes - 2
            new.write(data[-2:])
            new.finish(10**18, hashlib.sha1(data).digest())
        bucket.move(partial("1"), "a.jpg")
        assert bucket.sha1("a.jpg") == bucket.told_sha1("a.jpg") == hashlib.sha1(data).digest()


@pytest.mark.parametrize(
    ("host", "told"),
    [("127.0.0.1", "UNSIGNED-PAYLOAD"), ("127.0.0.2", hashlib.sha256(b"data").hexdigest())],
)
def test_bodies_are_signed_where_somebody_could_change_them_on_their_way(host: str, told: str):
    with listening(host) as (port, seen):
        account = Account(
            bucket="bucket",
            prefix="",
            endpoint=f"http://{host}:{port}",
            region="us-east-1",
            access_key="accesskey1",
            secret_key="planted-secret-key-0",
        )
        Store(account).put("a.jpg", b"data", {})
    assert seen == [told]


@contextmanager
def listening(host: str) -> Iterator[tuple[int, list[str]]]:
    """A store that takes everything, and the hashes that requests tell of their bodies."""
    seen: list[str] = []

    class Taking(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            seen.append(self.headers["x-amz-content-sha256"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"etag"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    try:
        server = HTTPServer((host, 0), Taking)
    except OSError:
        pytest.skip(f"no {host} here")
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_where_an_etag_proves_nothing_the_bytes_are_read_back(store: Served, tmp_path: Path):
    with made(Encrypting, store, tmp_path) as bucket:
        bring(bucket, "a.jpg", b"data")
        assert bucket.sha1("a.jpg") == hashlib.sha1(b"data").digest()
        assert not bucket.probe().checksums
        assert [path for path, *_ in bucket.scan()] == [b"a.jpg"]


def test_a_copy_without_its_metadata_is_made_again(store: Served, tmp_path: Path):
    with made(Forgetful, store, tmp_path) as bucket:
        bring(bucket, "a.jpg", b"data")
        before = bucket.entry("a.jpg")
        bucket.move("a.jpg", "2020/b.jpg")
        after = bucket.entry("2020/b.jpg")
        assert before is not None
        assert after is not None
        assert (after.mtime_ns, after.size_bytes) == (before.mtime_ns, before.size_bytes)
        assert bucket.told_sha1("2020/b.jpg") == hashlib.sha1(b"data").digest()


def test_a_store_that_refuses_to_overwrite_is_asked_to(store: Served, tmp_path: Path):
    with made(Honest, store, tmp_path) as bucket:
        bring(bucket, "first.jpg", b"data")  # nobody has seen yet that it refuses
        abilities = asdict(bucket.probe())
    assert abilities["no_overwrite_rename"]
    assert abilities["checksums"]
    with made(Honest, store, tmp_path) as bucket:
        bucket.write_state(MARKER, [json.dumps({"abilities": abilities}).encode()])
        with pytest.raises(FileExistsError):
            bring(bucket, "a.jpg", b"data")
        assert bucket.work_files(PARTIAL) == ["1"]


def test_whether_a_store_overwrites_is_known_and_nothing_is_lost(store: Served, tmp_path: Path):
    hands = BucketHands(store, tmp_path.name)
    with made(Store, store, tmp_path) as bucket:
        refuses = store.provider == "Ceph"  # rclone 1.75 overwrites, and says that all is well
        assert bucket.probe().no_overwrite_rename == refuses
        hands.put("a.jpg", b"theirs")
        with pytest.raises(FileExistsError):
            bring(bucket, "a.jpg", b"ours")
    assert hands.get("a.jpg") == b"theirs"


def assert_copy_alone_is_the_same(bucket: Bucket) -> None:
    """Where c.jpg is a copy of a.jpg, and b.jpg is not."""
    assert bucket.is_same_file("a.jpg", "c.jpg")
    assert not bucket.is_same_file("a.jpg", "b.jpg")
    assert not bucket.is_same_file("a.jpg", "nothing")
    with pytest.raises(ValueError, match="is not"):
        bucket.unlink_second_name("b.jpg", "a.jpg")


def test_a_copy_that_was_to_be_a_move_is_told_from_another_file(store: Served, tmp_path: Path):
    with made(Store, store, tmp_path) as bucket:
        bring(bucket, "a.jpg", b"data")
        bring(bucket, "b.jpg", b"data")
        obstore.copy(store.store(tmp_path.name), "a.jpg", "c.jpg")  # as a killed move leaves it
        assert_copy_alone_is_the_same(bucket)
        bucket.unlink_second_name("c.jpg", "a.jpg")
        assert [path for path, *_ in bucket.scan()] == [b"a.jpg", b"b.jpg"]


def test_a_copy_whose_store_forgot_its_id_is_told_by_its_bytes(tmp_path: Path):
    with served(tmp_path) as store:
        with made(Store, store, tmp_path) as bucket:
            bring(bucket, "a.jpg", b"data")
            bring(bucket, "b.jpg", b"same")
        obstore.copy(store.store(tmp_path.name), "a.jpg", "c.jpg")
        store.process.kill()  # rclone keeps what is written beside an object as long as it runs
        with again(store) as restarted, made(Store, restarted, tmp_path) as bucket:
            assert not bucket._store.head("a.jpg").metadata.get("mirror-id")
            assert_copy_alone_is_the_same(bucket)
            bucket.unlink_second_name("a.jpg", "c.jpg")
            assert [path for path, *_ in bucket.scan()] == [b"b.jpg", b"c.jpg"]


class Denying(Store):
    """Now and then has nothing of what it has: of which requests, for which paths, how often."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self.denies: dict[tuple[str, str], int] = {}

    def _deny(self, request: str, path: str) -> None:
        left = self.denies.get((request, path), 0)
        self.denies[request, path] = left - 1
        if left > 0:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    def head(self, path: str) -> Told:
        self._deny("head", path)
        return super().head(path)

    def copy(self, source: str, path: str) -> None:
        super().copy(source, path)
        self._deny("copy", path)  # after it was done

    def delete(self, path: str) -> None:
        self._deny("delete", path)
        super().delete(path)


def test_a_copy_that_a_store_denies_is_taken_back(store: Served, tmp_path: Path):
    with made(Denying, store, tmp_path) as bucket:
        assert isinstance(bucket._store, Denying)
        bring(bucket, "a.jpg", b"data")
        bucket._store.denies["copy", "b.jpg"] = 1
        with pytest.raises(FileNotFoundError):
            bucket.move("a.jpg", "b.jpg")
        assert [path for path, *_ in bucket.scan()] == [b"a.jpg"]
        bucket.move("a.jpg", "b.jpg")
        assert [path for path, *_ in bucket.scan()] == [b"b.jpg"]


def test_an_object_that_a_store_denies_when_it_is_to_go_goes(store: Served, tmp_path: Path):
    with made(Denying, store, tmp_path) as bucket:
        assert isinstance(bucket._store, Denying)
        bring(bucket, "a.jpg", b"data")
        bucket._store.denies["delete", "a.jpg"] = 1
        bucket.move("a.jpg", "b.jpg")
        assert [path for path, *_ in bucket.scan()] == [b"b.jpg"]


def test_what_was_overtaken_is_not_taken_back(store: Served, tmp_path: Path):
    """Another program's object at the path of a move that failed stays."""

    class Overtaken(Denying):
        def copy(self, source: str, path: str) -> None:  # noqa: ARG002
            self.put(path, b"data", {})
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    with made(Overtaken, store, tmp_path) as bucket:
        bring(bucket, "a.jpg", b"data")
        with pytest.raises(FileNotFoundError):
            bucket.move("a.jpg", "b.jpg")
        assert [path for path, *_ in bucket.scan()] == [b"a.jpg", b"b.jpg"]


def test_what_a_killed_run_was_trying_is_cleared_away_by_who_holds_all_of_it(
    store: Served, tmp_path: Path
):
    with made(Store, store, tmp_path) as bucket:
        left = f"{STATE}/probe-{uuid4()}"
        bucket._store.put(left, b"?", {})
        bring(bucket, "probe-1.jpg", b"data")
        list(bucket.scan())  # for a look alone, nothing is touched
        bucket.check_alone()
        assert bucket._lies(left)
        shard = Bucket(bucket._store, NAME, tmp_path / "shard", shard=Shard(1, 2))
        shard.prepare()
        with shard, shard.locked():  # another one may be trying
            list(shard.scan())
        assert bucket._lies(left)
        with bucket.locked():
            assert [path for path, *_ in bucket.scan()] == [b"probe-1.jpg"]
        assert not bucket._lies(left)


def test_a_listing_is_asked_for_more_only_once(store: Served, tmp_path: Path):
    looks: list[str] = []

    class Counting(Store):
        def head(self, path: str):
            if not path.startswith(f"{STATE}/"):
                looks.append(path)
            return super().head(path)

    hands = BucketHands(store, tmp_path.name)
    for number in range(20):
        hands.put(f"2020/{number}.jpg", str(number).encode(), 10**18)
    for expected in (20, 0):
        with made(Counting, store, tmp_path) as bucket:
            found = list(bucket.scan())
        assert len(found) == 21
        assert len(looks) == expected
        looks.clear()
    hands.put("2020/7.jpg", b"other")
    with made(Counting, store, tmp_path) as bucket:
        list(bucket.scan())
    assert looks == ["2020/7.jpg"]


def test_an_object_that_stands_for_a_folder_is_none(store: Served, tmp_path: Path):
    class Console(Store):
        def listed(self, folder: str = "") -> Iterator[Told]:
            yield Told("2020", 0, "etag", datetime.now(UTC))
            yield from super().listed(folder)

    hands = BucketHands(store, tmp_path.name)
    hands.put("2020-a.jpg", b"data", 10**18)
    hands.put("2020/a.jpg", b"data", 10**18)
    with made(Console, store, tmp_path) as bucket:
        found = [(path, kind) for path, kind, *_ in bucket.scan()]
    assert found == [
        (b"2020-a.jpg", EntryKind.FILE),
        (b"2020/", EntryKind.FOLDER),
        (b"2020/a.jpg", EntryKind.FILE),
    ]


def test_a_cache_that_cannot_be_read_is_begun_anew(store: Served, tmp_path: Path):
    hands = BucketHands(store, tmp_path.name)
    hands.put("a.jpg", b"data", 10**18)
    with made(Store, store, tmp_path) as bucket:
        before = list(bucket.scan())
    (tmp_path / "beside" / STATE / "objects.sqlite3").write_bytes(b"nonsense" * 1000)
    with made(Store, store, tmp_path) as bucket:
        assert list(bucket.scan()) == before


@pytest.mark.parametrize(
    ("text", "mtime_ns"),
    [
        ("1500000000.123456789", 1_500_000_000_123_456_789),
        ("1500000000", 1_500_000_000 * 10**9),
        ("-5.5", -5_500_000_000),
    ],
)
def test_times_of_rclone_are_read(store: Served, tmp_path: Path, text: str, mtime_ns: int):
    outside = store.store(tmp_path.name)
    obstore.put(outside, "a.jpg", b"data", attributes={"mtime": text})
    with made(Store, store, tmp_path) as bucket:
        entry = bucket.entry("a.jpg")
        assert entry is not None
        assert entry.mtime_ns == mtime_ns
        bucket.move("a.jpg", "b.jpg")
    assert obstore.get(outside, "b.jpg").attributes["mtime"] == text


@pytest.mark.parametrize("text", ["", "yesterday", "NaN", "1e999999999"])
def test_a_time_that_is_none_is_that_of_the_object(store: Served, tmp_path: Path, text: str):
    obstore.put(store.store(tmp_path.name), "a.jpg", b"data", attributes={"mtime": text})
    with made(Store, store, tmp_path) as bucket:
        entry = bucket.entry("a.jpg")
        assert entry is not None
        assert entry.mtime_ns > 10**18


@pytest.fixture
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the machine is to be called, which containers often are not."""
    told = uuid4().hex
    (tmp_path / "machine-id").write_text(f"{told}\n")
    monkeypatch.setattr(lock, "_MACHINE_ID", tmp_path / "machine-id")
    return told


def held_by(change: Mapping[str, object], store: Store) -> dict[str, object]:
    """A lease that a process of this machine took a moment ago, but for what is changed of it."""
    told: dict[str, object] = json.loads(this_process()) | change
    left = {key: value for key, value in told.items() if value is not None}
    store.put(".mirror/locks/theirs", json.dumps(left).encode(), {})
    return told


@pytest.mark.usefixtures("machine_id")
@pytest.mark.parametrize(
    "change",
    [
        {"boot": "another", "machine": "another"},
        {"boot": "another", "machine": None, "pids": None},
        {"pid": 4_000_000, "pids": "another"},
    ],
    ids=["another machine", "of an older version", "another container"],
)
def test_a_lease_of_a_machine_that_is_only_called_the_same_is_waited_for(
    store: Served, tmp_path: Path, change: Mapping[str, object]
):
    with made(Store, store, tmp_path) as bucket:
        told = held_by(change, bucket._store)
        for attempt in (bucket.locked().__enter__, bucket.check_free):
            with pytest.raises(LockedError, match="is in use") as refused:
                attempt()
            assert f"process {told['pid']} on {told['host']}" in refused.value.why
        assert bucket._store.names(".mirror/locks") == ["theirs"]


@pytest.mark.usefixtures("machine_id")
@pytest.mark.parametrize(
    "change", [{"boot": "another"}, {"pid": 4_000_000}], ids=["rebooted", "died"]
)
def test_a_lease_of_this_machine_whose_holder_died_is_taken_over_at_once(
    store: Served, tmp_path: Path, change: Mapping[str, object]
):
    with made(Store, store, tmp_path) as bucket:
        held_by(change, bucket._store)
        bucket.check_free()
        with bucket.locked():
            assert "theirs" not in bucket._store.names(".mirror/locks")


def test_a_hold_tells_its_machine_only_to_who_knows_it(machine_id: str):
    assert machine_id not in this_process().decode()
    assert json.loads(this_process())["machine"]
