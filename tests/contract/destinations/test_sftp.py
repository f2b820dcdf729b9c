"""What servers that speak SFTP refuse, lose and leave out, and what a destination makes of it."""

import asyncio
import errno
import hashlib
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import asyncssh
import pytest

from mirror.core.model import Destination, EntryKind
from mirror.core.secret import EnvSecret, LiteralSecret
from mirror.destinations import (
    MARKER,
    PARTIAL,
    STATE,
    OpenDestination,
    partial,
    sftp_login,
    sftp_session,
)
from mirror.destinations.sftp import SftpFolder
from mirror.destinations.sftp_login import Door, Login
from mirror.destinations.sftp_session import Session
from mirror.destinations.sftp_site import SftpSite
from mirror.errors import (
    MirrorError,
    NoSpaceError,
    NotMountedError,
    NotOursError,
    UnwritableError,
)
from tests.integration.test_destination import as_nobody
from tests.servers import KINDS, PASSWORD, Server, Wire, again, free_port, key_pair, served

_NS = 10**9


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as serving:
        yield serving


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Server]:
    with served("openssh", tmp_path) as serving:
        yield serving


@pytest.fixture
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before a server is asked again."""
    monkeypatch.setattr(sftp_session, "_AGAIN_S", (0.0, 0.01))


@contextmanager
def opened(server: Server, folder: Path) -> Iterator[SftpFolder]:
    session = server.session("")
    with SftpFolder(session, server.url(""), folder / "beside") as destination:
        destination.prepare()
        yield destination


def bring(destination: OpenDestination, path: str, data: bytes) -> None:
    with closing(destination.open_partial("1")) as new:
        new.write(data)
        new.finish(7 * _NS)
    destination.move(partial("1"), path)


def refusal(login: Login) -> str:
    """How a login ends."""
    session = Session(login)
    try:
        with pytest.raises(UnwritableError) as refused:
            session.connect()
    finally:
        session.close()
    assert refused.value.hint
    said = f"{refused.value}\n{refused.value.__cause__}"
    assert PASSWORD not in said
    return said


# -- the login -------------------------------------------------------------------------------------


def test_a_login_that_is_refused_is_said_in_words(server: Server, tmp_path: Path):
    wrong = server.login()
    if server.key_file is None:
        wrong = replace(wrong, password="planted-and-wrong")
    else:
        wrong = replace(wrong, key_file=str(key_pair(tmp_path / "nobodys")))
    assert f"the server refuses the login of {server.user}" in refusal(wrong)
    assert "planted-and-wrong" not in refusal(wrong)


def test_a_server_that_nobody_vouches_for_is_not_logged_in_to(server: Server, tmp_path: Path):
    fingerprint = fingerprint_of(server.host_key.with_name(f"{server.host_key.name}.pub"))
    unknown = tmp_path / "none"
    said = refusal(replace(server.login(), known_hosts=str(unknown)))
    assert fingerprint in said
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> {unknown}" in said


def fingerprint_of(public: Path) -> str:
    told = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True)
    return told.stdout.split()[1]


def test_a_server_with_another_key_than_the_known_one_is_told_as_such(
    server: Server, tmp_path: Path
):
    other = key_pair(tmp_path / "other").with_suffix(".pub")
    known = tmp_path / "known hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other.read_text()}")
    login = replace(server.login(), known_hosts=str(known))
    said = refusal(login)
    assert "the server's key is not the one that is known" in said
    assert "somebody may be in between" in said
    for public in (server.host_key.with_name(f"{server.host_key.name}.pub"), other):
        assert fingerprint_of(public) in said
    # What it says to do about it does it.
    subprocess.run(
        command_in(said, "ssh-keygen -R", " &&"), shell=True, check=True, capture_output=True
    )
    assert known.read_text() == ""
    subprocess.run(
        command_in(said, "ssh-keyscan", "\n"), shell=True, check=True, capture_output=True
    )
    with closing(Session(login)) as session:
        session.connect()


def command_in(said: str, begin: str, end: str) -> str:
    """One that a message says."""
    return begin + said.partition(begin)[2].partition(end)[0]


@pytest.mark.parametrize("port", ["[127.0.0.1]:{port}", "127.0.0.1"])
def test_a_server_without_a_key_of_the_known_kind_is_known_only_at_its_own_port(
    server: Server, tmp_path: Path, port: str
):
    """Several servers of one machine have a key each."""
    rsa = tmp_path / "rsa"
    command = ["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(rsa)]
    subprocess.run(command, check=True)
    known = tmp_path / "known"
    known.write_text(f"{port.format(port=server.port)} {rsa.with_suffix('.pub').read_text()}")
    said = refusal(replace(server.login(), known_hosts=str(known)))
    is_its_own = port != "127.0.0.1"
    assert ("the server's key is not the one that is known" in said) is is_its_own
    assert ("the server is not known" in said) is not is_its_own


def test_a_revoked_key_is_not_asked_to_be_trusted(server: Server, tmp_path: Path):
    known = tmp_path / "known"
    known.write_text(f"@revoked {server.known_hosts.read_text()}")
    said = refusal(replace(server.login(), known_hosts=str(known)))
    assert "revoked" in said
    assert ">>" not in said


def test_a_key_that_cannot_be_used_is_said_in_words(sshd: Server, tmp_path: Path):
    locked = tmp_path / "locked"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "planted passphrase", "-f", str(locked)]
    subprocess.run(command, check=True)
    said = refusal(replace(sshd.login(), key_file=str(locked)))
    assert "has a passphrase, and nobody is there to type it" in said
    assert "ssh-agent" in said
    (tmp_path / "text").write_text("no key")
    assert "is no private key" in refusal(replace(sshd.login(), key_file=str(tmp_path / "text")))
    said = refusal(replace(sshd.login(), key_file=str(tmp_path / "nothing")))
    assert "No such file" in said


def test_a_key_of_another_user_is_not_looked_into_beforehand():
    with as_nobody() as mine:
        (mine / "keys").mkdir()
        (mine / "keys/key").touch()
        (mine / "keys").chmod(0)
        login = Login(host="127.0.0.1", port=1, user="a", key_file=str(mine / "keys/key"))
        Door(login).check_key()
        (mine / "keys").chmod(0o700)
        with pytest.raises(UnwritableError, match="no login"):
            Door(login).check_key()


def test_where_nobody_listens_there_is_no_connection(tmp_path: Path):
    login = Login(host="127.0.0.1", port=free_port(), user="a", known_hosts=str(tmp_path / "none"))
    assert "the server cannot be reached" in refusal(login)


def test_the_users_own_keys_and_those_of_an_agent_are_tried(
    sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / ".ssh"
    folder.mkdir()
    shutil.copy(sshd.known_hosts, folder / "known_hosts")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    login = replace(sshd.login(), key_file=None, known_hosts=None)
    assert "refuses the login" in refusal(login)

    own = Path(shutil.copy(str(sshd.key_file), folder / "id_ed25519"))
    with closing(Session(login)) as session:
        session.connect()
    own.unlink()

    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        while not (tmp_path / "agent").exists():
            assert agent.poll() is None
        subprocess.run(["ssh-add", "-q", str(sshd.key_file)], check=True)
        with closing(Session(login)) as session:
            session.connect()
    finally:
        agent.terminate()
        agent.wait()


# -- where it is -----------------------------------------------------------------------------------


def site(server: Server, path: str) -> SftpSite:
    login = server.login()
    return SftpSite(
        Destination(
            path=server.url(path),
            key_file=login.key_file,
            password=None if login.password is None else LiteralSecret(login.password),
            known_hosts=login.known_hosts,
        )
    )


def test_a_folder_is_made_with_those_above_it_and_found_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    place = site(server, "a/b#?%20/photos")
    place.check(require_mount=False)
    assert place.open() is None
    with place.make() as made:
        made.prepare()
        made.write_state(MARKER, [b"{}"])
    assert (server.folder / "a/b#?%20/photos" / STATE / MARKER).exists()
    found = place.open()
    assert found is not None
    with found:
        assert found.read_state(MARKER) == b"{}"
    assert place.root.is_relative_to(tmp_path / "state/sftp")


def test_a_place_where_no_destination_must_be_is_refused(server: Server):
    taken = server.folder / "taken" / STATE
    taken.mkdir(parents=True)
    (taken / MARKER).touch()
    (server.folder / "immich").mkdir()
    (server.folder / "immich/.immich").touch()
    for path, what in (
        ("taken/a/b", "lies inside another"),
        ("immich", "belongs to Immich itself"),
    ):
        place = site(server, path)
        with pytest.raises(NotOursError, match=what):
            place.check(require_mount=False)
        place.make().close()
    with pytest.raises(NotMountedError):
        site(server, "photos").check(require_mount=True)


@pytest.mark.parametrize("path", ["file", "file/photos"])
def test_a_file_where_a_folder_is_to_be_is_said_to_be_one(server: Server, path: str):
    (server.folder / "file").touch()
    place = site(server, path)
    with pytest.raises(UnwritableError, match="cannot be used as a destination") as refused:
        place.open() or place.make()
    assert refused.value.why == f"{server.root.rstrip('/')}/file is a file, and no folder"


def test_a_password_that_cannot_be_read_is_said_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_SUCH", raising=False)
    there = Destination(path="sftp://a@127.0.0.1/photos", password=EnvSecret("NO_SUCH"))
    with pytest.raises(UnwritableError, match="no password could be read from the environment"):
        SftpSite(there).check(require_mount=False)


# -- a connection that is lost ---------------------------------------------------------------------


@pytest.mark.usefixtures("in_haste")
def test_a_lost_connection_is_made_again(sshd: Server, tmp_path: Path):
    data = os.urandom(5 << 20)

    class Cut(BytesIO):
        """Bytes in the middle of which the connection goes."""

        cuts = 0

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == 2 << 20 and not self.cuts:
                self.cuts += 1
                sshd.cut()
            return super().read(size)

    with opened(sshd, tmp_path) as destination:
        destination._session.upload(Cut(data), "a.jpg", 7)
        assert (sshd.folder / "a.jpg").read_bytes() == data
        pieces = destination.pieces("a.jpg")
        read = next(pieces)
        sshd.cut()
        assert read + b"".join(pieces) == data
        sshd.cut()
        destination.move("a.jpg", "2020/b.jpg")
        assert destination.sha1("2020/b.jpg") == hashlib.sha1(data).digest()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is asked whether it still lives after a moment; a busy machine answers by then."""
    monkeypatch.setattr(sftp_login, "_ALIVE_S", 0.6)


@contextmanager
def over_a_wire(server: Server) -> Iterator[tuple[Wire, Session]]:
    with closing(Wire(server.port)) as wire, closing(Session(server.through(wire))) as session:
        session.enter(server.root)
        session.connect()
        yield wire, session


@pytest.mark.usefixtures("in_haste", "impatient")
def test_a_connection_that_died_without_a_word_is_made_again(server: Server):
    data = os.urandom(3 << 20)
    with over_a_wire(server) as (wire, session):
        session.upload(BytesIO(data), "a.jpg", 7)
        for asked in (
            lambda: session.look("a.jpg").size_bytes == len(data),
            lambda: [seen.name for seen in session.listing("").result()] == [b"a.jpg"],
            lambda: b"".join(session.pieces("a.jpg")) == data,
        ):
            wire.silence()
            assert asked()
        wire.silence()
        session.upload(BytesIO(data), "b.jpg", 7)
        assert (server.folder / "b.jpg").read_bytes() == data
        assert wire.connections == 5


def test_a_dead_connection_is_found_within_a_minute():
    # One more interval than questions.
    assert sftp_login._ALIVE_S * (sftp_login._ALIVE_TRIES + 1) <= 60


@pytest.mark.usefixtures("in_haste", "impatient")
def test_a_server_that_lives_is_not_taken_for_dead_while_nothing_is_asked(server: Server):
    with over_a_wire(server) as (wire, session):
        drained(wire)
        for _ in range(3 * sftp_login._ALIVE_TRIES):
            assert wire.answers.acquire(timeout=30)
        session.look("")
        assert wire.connections == 1


@pytest.mark.usefixtures("in_haste", "impatient")
def test_a_request_for_which_a_server_takes_long_is_waited_for(sshd: Server):
    os.mkfifo(sshd.folder / "slow")  # opening it takes until somebody writes to it
    with over_a_wire(sshd) as (wire, session), ThreadPoolExecutor() as pool:
        session.look("")
        drained(wire)
        read = pool.submit(lambda: b"".join(session.pieces("slow")))
        for _ in range(3 * sftp_login._ALIVE_TRIES):
            assert wire.answers.acquire(timeout=30)
        assert not read.done()
        (sshd.folder / "slow").write_bytes(b"")
        read.result(30)
        assert wire.connections == 1


def drained(wire: Wire) -> None:
    """All that came back so far is counted no more."""
    while wire.answers.acquire(blocking=False):
        pass


@pytest.fixture
def cut_once(sshd: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The next rename is cut between the link and the unlink that OpenSSH makes of it."""
    rename, cuts = asyncssh.SFTPClient.rename, list[str]()

    async def cut(self: asyncssh.SFTPClient, old: bytes, new: bytes) -> None:
        if not cuts:
            cuts.append(os.fsdecode(new))
            os.link(old, new)
            sshd.cut()
        await rename(self, old, new)

    monkeypatch.setattr(asyncssh.SFTPClient, "rename", cut)
    return cuts


@pytest.mark.usefixtures("in_haste")
def test_a_rename_that_was_cut_between_its_two_halves_is_ended(
    sshd: Server, tmp_path: Path, cut_once: list[str]
):
    with opened(sshd, tmp_path) as destination:
        bring(destination, "a.jpg", b"data")
        assert cut_once == [str(sshd.folder / "a.jpg")]
        assert destination.work_files("uploads") == destination.work_files(PARTIAL) == []
        cut_once.clear()
        destination.move("a.jpg", "2020/b.jpg")
        assert cut_once == [str(sshd.folder / "2020/b.jpg")]
        assert [path for path, *_ in destination.scan()] == [b"2020/", b"2020/b.jpg"]
        assert destination.sha1("2020/b.jpg") == hashlib.sha1(b"data").digest()


@pytest.mark.usefixtures("in_haste")
def test_a_rename_that_is_asked_again_spares_another_file_with_the_same_bytes(
    sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rename, cuts = asyncssh.SFTPClient.rename, list[str]()

    async def cut(self: asyncssh.SFTPClient, old: bytes, new: bytes) -> None:
        if not cuts:
            cuts.append(os.fsdecode(new))
            shutil.copy2(old, new)  # somebody else's
            sshd.cut()
        await rename(self, old, new)

    with opened(sshd, tmp_path) as destination:
        bring(destination, "a.jpg", b"data")
        monkeypatch.setattr(asyncssh.SFTPClient, "rename", cut)
        with pytest.raises(FileExistsError):
            destination.move("a.jpg", "b.jpg")
        assert [path for path, *_ in destination.scan()] == [b"a.jpg", b"b.jpg"]


@pytest.mark.usefixtures("in_haste")
def test_a_server_that_stays_away_ends_it_and_is_not_asked_again(server: Server, tmp_path: Path):
    with opened(server, tmp_path) as destination:
        bring(destination, "a.jpg", b"data")
        server.kill()
        with pytest.raises(OSError, match="the server was lost, and is not back") as lost:
            bring(destination, "b.jpg", b"data")
        assert lost.value.errno == errno.ENETDOWN
        assert destination.work_files(PARTIAL) == ["1"]
        for attempt in (lambda: list(destination.scan()), lambda: destination.entry("a.jpg")):
            with pytest.raises(UnwritableError):
                attempt()
    with again(server), opened(server, tmp_path) as destination:
        destination.move(partial("1"), "b.jpg")
        assert destination.sha1("b.jpg") == hashlib.sha1(b"data").digest()


@pytest.mark.usefixtures("in_haste")
def test_another_server_in_its_place_gets_no_login(sshd: Server, tmp_path: Path):
    with opened(sshd, tmp_path) as destination, destination.locked():
        sshd.kill()
        for path in (sshd.host_key, sshd.host_key.with_suffix(".pub")):
            path.unlink()
        trusted = sshd.known_hosts.read_text()
        with again(sshd):
            sshd.known_hosts.write_text(trusted)
            with pytest.raises(OSError, match=r"is not back: its key SHA256:.* is not the one"):
                bring(destination, "a.jpg", b"data")
            assert not (sshd.folder / "a.jpg").exists()


@pytest.mark.usefixtures("in_haste")
def test_a_file_that_changed_while_the_connection_was_lost_is_not_read_on(
    sshd: Server, tmp_path: Path
):
    file = sshd.folder / "a.jpg"
    file.write_bytes(bytes(3 << 20))
    with opened(sshd, tmp_path) as destination:
        pieces = destination.pieces("a.jpg")
        next(pieces)
        file.write_bytes(bytes(4 << 20))
        sshd.cut()
        with pytest.raises(OSError, match="written to while it was read"):
            list(pieces)


def test_what_a_connection_has_to_say_is_no_line_of_ours(
    sshd: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    logger = logging.getLogger("asyncio")
    with opened(sshd, tmp_path) as destination:
        said = threading.Event()
        loop = destination._session._loop
        loop.call_soon_threadsafe(logger.warning, "socket.send() raised exception.")
        loop.call_soon_threadsafe(said.set)
        assert said.wait(10)
        assert caplog.messages == []
        logger.warning("of others")
    assert caplog.messages == ["of others"]


def test_what_a_killed_run_was_uploading_is_cleared_away(sshd: Server, tmp_path: Path):
    with opened(sshd, tmp_path) as destination:
        (sshd.folder / STATE / "uploads" / "half").write_bytes(b"half")
        with destination.locked():
            assert not list((sshd.folder / STATE / "uploads").iterdir())


# -- no room ---------------------------------------------------------------------------------------


@contextmanager
def _mounted(place: Path, *options: str) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("only root may mount")
    place.mkdir(parents=True)
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_said_to_be_full_and_keeps_no_part(kind: str, tmp_path: Path):
    with (
        _mounted(tmp_path / "small/served", "-t", "tmpfs", "-o", "size=6m", "none") as small,
        served(kind, tmp_path / "small") as server,
        opened(server, tmp_path) as destination,
    ):
        bring(destination, "a.jpg", bytes(3 << 20))
        free_bytes = shutil.disk_usage(small).free
        with pytest.raises(OSError, match="No space left") as full:
            bring(destination, "b.jpg", bytes(4 << 20))
        assert full.value.errno == errno.ENOSPC
        assert [path for path, *_ in destination.scan()] == [b"a.jpg"]
        assert shutil.disk_usage(small).free >= free_bytes - 65536
        with pytest.raises(NoSpaceError):
            destination.write_state("x.json", [bytes(4 << 20)])
        destination.drop(partial("1"))
        bring(destination, "c.jpg", b"data")


def test_a_folder_that_may_only_be_read_is_said_to_be(tmp_path: Path):
    with (
        _mounted(tmp_path / "disk/served", "-t", "tmpfs", "none") as disk,
        served("openssh", tmp_path / "disk") as server,
        opened(server, tmp_path) as destination,
    ):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            bring(destination, "a.jpg", b"data")
        with pytest.raises(MirrorError, match="cannot be used as a destination") as refused:
            destination.write_state("x.json", [b"data"])
        assert refused.value.why == "Read-only file system"


# -- what servers promise --------------------------------------------------------------------------


def test_what_a_server_does_with_a_name_that_is_taken_is_tried(server: Server, tmp_path: Path):
    with opened(server, tmp_path) as destination:
        assert destination.probe().no_overwrite_rename is (server.kind == "openssh")
        assert not list((server.folder / STATE / "uploads").iterdir())


class Poor(asyncssh.SFTPServer):
    """Knows the third version of SFTP, and not a word more."""

    def posix_rename(self, *_: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("what?")

    def fsync(self, *_: object) -> None:
        raise asyncssh.SFTPOpUnsupported("what?")

    def link(self, *_: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("what?")

    def statvfs(self, *_: bytes) -> Any:
        raise asyncssh.SFTPOpUnsupported("what?")


class Losing(Poor):
    """Says that all is written, and it is not."""

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        super().write(file_obj, offset, data[:-1])
        return len(data)


@asynccontextmanager
async def serving(kind: type[Poor], tmp_path: Path) -> AsyncIterator[Login]:
    """A server that is one of this process."""
    host = key_pair(tmp_path / "host")
    (tmp_path / "there").mkdir()

    class Anybody(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return username == ""

    async with asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Anybody,
        server_host_keys=[str(host)],
        sftp_factory=lambda channel: kind(channel, chroot=os.fsencode(tmp_path / "there")),
    ) as listening:
        port = listening.get_port()
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{port} {host.with_suffix('.pub').read_text()}")
        yield Login(host="127.0.0.1", port=port, user="a", password="p", known_hosts=str(known))


@pytest.fixture
async def poor(tmp_path: Path) -> AsyncIterator[Login]:
    async with serving(Poor, tmp_path) as login:
        yield login


async def test_what_a_server_loses_never_has_a_name(tmp_path: Path):
    async with serving(Losing, tmp_path) as login:

        def used() -> None:
            with SftpFolder(Session(login), "sftp://a@losing", tmp_path / "beside") as destination:
                destination.prepare()
                with pytest.raises(OSError, match="less than it was given"):
                    bring(destination, "a.jpg", b"data")
                assert list(destination.scan()) == []
                assert destination.work_files(PARTIAL) == ["1"]
                assert destination.work_files("uploads") == []

        await asyncio.to_thread(used)


async def test_a_server_that_knows_little_is_enough(poor: Login, tmp_path: Path):
    there = tmp_path / "there"

    def used() -> None:
        with SftpFolder(Session(poor), "sftp://a@poor", tmp_path / "beside") as destination:
            destination.prepare()
            can = destination.probe()
            assert not can.hard_links
            for text in (b"old", b"new"):
                destination.write_state("x.json", [text])
                assert destination.read_state("x.json") == text
            with destination.locked():
                bring(destination, "2020/a.jpg", b"data")
                with pytest.raises(FileExistsError):
                    bring(destination, "2020/a.jpg", b"other")
            found = [(path, kind) for path, kind, *_ in destination.scan()]
            assert found == [(b"2020/", EntryKind.FOLDER), (b"2020/a.jpg", EntryKind.FILE)]
            assert destination.free_bytes() > 0

    await asyncio.to_thread(used)
    assert (there / "2020/a.jpg").read_bytes() == b"data"
    # Killed while the old one was gone, and the new one had not its name yet.
    (there / STATE / "x.json").rename(there / STATE / "x.json.next")

    def read() -> bytes | None:
        with SftpFolder(Session(poor), "sftp://a@poor", tmp_path / "beside") as destination:
            return destination.read_state("x.json")

    assert await asyncio.to_thread(read) == b"new"


def test_a_disk_that_goes_while_it_is_looked_at_is_no_empty_folder(sshd: Server, tmp_path: Path):
    with opened(sshd, tmp_path) as destination:
        destination.write_state(MARKER, [b"{}"])
        for number in range(3):
            bring(destination, f"{number}/a.jpg", b"data")
        scan = destination.scan()
        next(scan)
        (sshd.folder / STATE / MARKER).unlink()
        with pytest.raises(UnwritableError, match="is another folder than when the run began"):
            list(scan)


def test_a_destination_that_is_done_has_nothing_for_others(server: Server, tmp_path: Path):
    with opened(server, tmp_path) as destination:
        bring(destination, "a.jpg", b"data")
        with destination.fetched("a.jpg") as file:
            assert file.read() == b"data"
    with pytest.raises(OSError, match="connection is closed"):
        destination.fetched("a.jpg")


def test_whoever_reads_while_a_destination_ends_is_told(sshd: Server, tmp_path: Path):
    with opened(sshd, tmp_path) as destination:
        bring(destination, "film.mp4", bytes(3_000_000))
        reading = destination.pieces("film.mp4")
        next(reading)
    with pytest.raises(OSError, match="connection is closed"):
        list(reading)


def test_what_is_under_way_when_a_session_ends_does_not_hang(sshd: Server):
    session, told = sshd.session(""), list[str]()
    session.connect()
    sshd.freeze()

    def look() -> None:
        try:
            session.look("a.jpg")
        except OSError as error:
            told.append(str(error.strerror))

    looking = threading.Thread(target=look)
    looking.start()
    session.close()
    looking.join(30)
    sshd.cut()  # what is frozen ends by no wish
    assert told == ["the connection is closed"]
