"""A Ceph cluster of this machine, for as long as a test needs it: S3 as many sites have it.

One monitor, three OSDs that keep objects in memory, and a RADOS Gateway, all on loopback and from
`MIRROR_CEPH`, where `tests/fetch-ceph` unpacked them. Every object is kept three times, and a write
counts when two OSDs have it.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, Served, free_port

OSDS = 3
_PATIENCE_S = 120.0
_CONFIG = """
[global]
fsid = {fsid}
mon initial members = a
mon host = v1:127.0.0.1:{monitor}
auth cluster required = none
auth service required = none
auth client required = none
run dir = {root}
admin socket = {root}/$name.asok
log file = {root}/$name.log
mon cluster log file = {root}/cluster.log
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
osd class dir = {libraries}/rados-classes
public addr = 127.0.0.1
ms bind msgr2 = false
osd pool default size = {osds}
osd pool default min size = 2
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon osd reporter subtree level = osd
osd crush update on start = false
osd class update on start = false
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = {root}/mon
osd data = {root}/osd.$id
rgw data = {root}/rgw
rgw bucket quota ttl = 0
rgw user quota bucket sync interval = 0
rgw user quota sync interval = 0
rgw cache enabled = false
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""


class Ceph:
    """One user, one bucket; `root` holds what it keeps."""

    def __init__(self, packages: Path, root: Path) -> None:
        """Starts nothing yet."""
        self._packages = packages
        self._root = root
        (self._libraries,) = packages.glob("usr/lib/*-linux-*")
        self._port = free_port()
        self._osds: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def running(self) -> Iterator[Served]:
        """Start all of it; half a minute."""
        fsid, monitor = str(uuid.uuid4()), free_port()
        for folder in ("mon", "rgw", *(f"osd.{number}" for number in range(OSDS))):
            (self._root / folder).mkdir()
        (self._root / "ceph.conf").write_text(
            _CONFIG.format(
                fsid=fsid,
                monitor=monitor,
                gateway=self._port,
                root=self._root,
                libraries=self._libraries,
                osds=OSDS,
            )
        )
        with ExitStack() as stack:
            stack.enter_context(self._monitor(fsid, monitor))
            for number in range(OSDS):
                self._osds.append(stack.enter_context(self._osd(number)))
            until(lambda: f"{OSDS} up" in self.told("osd", "stat"))
            yield stack.enter_context(self._gateway())

    @contextmanager
    def _monitor(self, fsid: str, port: int) -> Iterator[None]:
        monitors = str(self._root / "monmap")
        self._call("monmaptool", "--create", "--fsid", fsid, monitors)
        self._call("monmaptool", "--addv", "a", f"[v1:127.0.0.1:{port}]", monitors)
        self._call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors)
        with self._started("ceph-mon", "-i", "a"):
            yield

    @contextmanager
    def _osd(self, number: int) -> Iterator["subprocess.Popen[bytes]"]:
        own_id = str(uuid.uuid4())
        self.told("osd", "new", own_id, str(number))
        # By itself it would ask for that before it knows the cluster's id, and now and then end.
        self.told("osd", "crush", "add", f"osd.{number}", "1", "root=default", "host=here")
        self._call("ceph-osd", "-i", str(number), "--mkfs", "--osd-uuid", own_id)
        with self._started("ceph-osd", "-i", str(number)) as process:
            yield process

    @contextmanager
    def _gateway(self) -> Iterator[Served]:
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        self._call("radosgw-admin", "user", "create", "--uid=me", "--display-name=me", *keys)
        with self._started("radosgw", "-n", "client.rgw") as process:
            served = Served(self._port, self._root, process, provider="Ceph")
            until(lambda: served.rclone("mkdir", f"store:{BUCKET}").returncode == 0)
            yield served

    def told(self, *words: str) -> str:
        """What the cluster says."""
        return self._call("ceph", "--connect-timeout", "60", *words)

    def allow(self, objects: int) -> None:
        """Take no more than so many from its user; fewer than none: as many as come."""
        quota = ("quota", "--uid=me", "--quota-scope=user")
        self._call("radosgw-admin", quota[0], "set", *quota[1:], f"--max-objects={objects}")
        self._call("radosgw-admin", quota[0], "enable", *quota[1:])

    def lose_osd(self) -> None:
        """One of three is dead at once, and what it held is gone."""
        dead = self._osds.pop()
        dead.kill()
        dead.wait()

    def _call(self, program: str, *words: str) -> str:
        done = subprocess.run(
            self._command(program, *words),
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program} {words}: {done.stderr}"
        return done.stdout + done.stderr

    @contextmanager
    def _started(self, program: str, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        with (self._root / f"{program}{words[-1]}.out").open("wb") as out:
            command = self._command(program, *words, "-f")
            process = subprocess.Popen(command, env=self._environ, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.kill()  # nothing of it is needed any more
            process.wait()

    def _command(self, program: str, *words: str) -> list[str]:
        # The one written in Python is for Debian's own.
        python = ["/usr/bin/python3"] if program == "ceph" else []
        path = str(self._packages / "usr/bin" / program)
        config = [] if program == "monmaptool" else ["-c", str(self._root / "ceph.conf")]
        return [*python, path, *config, *words]

    @property
    def _environ(self) -> dict[str, str]:
        early = self._packages / "lib" / self._libraries.name
        paths = (self._libraries, self._libraries / "ceph", early)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._root),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, paths)),
            "PYTHONPATH": str(self._packages / "usr/lib/python3/dist-packages"),
        }


def packages() -> Path:
    """Where Ceph was unpacked; a test that has none is skipped."""
    told = os.environ.get("MIRROR_CEPH")
    if not told:
        pytest.skip("no Ceph: run tests/fetch-ceph FOLDER, and set MIRROR_CEPH=FOLDER")
    return Path(told)


def until(holds: Callable[[], bool]) -> None:
    """Wait for a cluster, which tells nobody when it is ready."""
    end_s = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, "it does not get ready"
        time.sleep(0.2)
