"""First runs into a bucket: originals from nginx, the store rclone's own, from memory to memory."""

import itertools
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.benchmarks.measuring import Bench, Row, Run, Side, in_turn, measured, row
from tests.benchmarks.server import Served, cpu_s, served
from tests.benchmarks.tree import mirror, write_profile
from tests.stores import ACCESS_KEY, BUCKET, SECRET_KEY, rclone
from tests.stores import Served as Store
from tests.stores import served as stored

_MB: Final = 1_000_000
_numbers = itertools.count()
_DESTINATION: Final = """url = "s3://{bucket}/{prefix}"
endpoint = "{endpoint}"
region = "us-east-1"
access_key = {{ file = "{home}/access" }}
secret_key = {{ file = "{home}/secret" }}"""


def buckets(bench: Bench) -> Iterator[Row]:
    """Small files, files as large as photos, and a few videos."""
    for files, size_bytes in ((2000, 1 * _MB), (300, 5 * _MB), (6, 250 * _MB)):
        yield from _into_a_bucket(bench, bench.files(files), size_bytes)


def _into_a_bucket(bench: Bench, files: int, size_bytes: int) -> Iterator[Row]:
    with (
        bench.folder() as root,
        served(root, files, size_bytes) as source,
        stored(root / "store") as store,
    ):
        sides = {
            "ours": _ours(source, store, root),
            "alone": _rclone(source, store, root, ["copy"]),
            "checked": _rclone(source, store, root, ["copy"], ["check", "--download"]),
        }
        runs = in_turn(sides, bench.repeats)
    what = f"{files} files of {size_bytes // _MB} MB into a bucket"
    yield row(f"{what} / rclone copy, unverified", runs["ours"], runs["alone"], 1.11)
    yield row(f"{what} / rclone copy, check --download", runs["ours"], runs["checked"], None)
    yield _cpu_of_all(f"CPU of all, {what} / rclone copy", runs["ours"], runs["alone"])


def _ours(source: Served, store: Store, root: Path) -> Side:
    def run() -> Run:
        home = Path(tempfile.mkdtemp(dir=root))
        for name, key in (("access", ACCESS_KEY), ("secret", SECRET_KEY)):
            (home / name).write_text(key)
            (home / name).chmod(0o600)
        told = _DESTINATION.format(
            bucket=BUCKET, prefix=home.name, endpoint=store.endpoint, home=home
        )
        write_profile(source, home, destination=told)
        done = mirror("sync", source, home, server_cpu_s=_both(source, store))
        shutil.rmtree(home)
        _emptied(store, home.name, source.files)
        return done

    return run


def _cpu_of_all(what: str, ours: list[Run], peer: list[Run]) -> Row:
    """Client and servers together: what the cores that they share have to do."""
    ours, peer = (
        [replace(run, cpu_s=run.cpu_s + run.server_cpu_s, server_cpu_s=0) for run in runs]
        for runs in (ours, peer)
    )
    return row(what, ours, peer, None, of="cpu_s")


def _rclone(source: Served, store: Store, root: Path, *what: list[str]) -> Side:
    where = (
        f":s3,provider=Rclone,endpoint='{store.endpoint}',access_key_id={ACCESS_KEY},"
        f"secret_access_key={SECRET_KEY}:{BUCKET}/"
    )
    options = ["--config", "", "--transfers", "8", "--checkers", "8"]

    def run() -> Run:
        prefix = f"peer-{next(_numbers)}"
        paths = ["--http-url", source.originals, ":http:", where + prefix]
        script = " && ".join(shlex.join([rclone(), *words, *options, *paths]) for words in what)
        done = measured(["sh", "-ec", script], root, server_cpu_s=_both(source, store))
        _emptied(store, prefix, source.files)
        return done

    return run


def _both(source: Served, store: Store) -> Callable[[], float]:
    return lambda: source.cpu_s() + cpu_s(store.process.pid)


def _emptied(store: Store, prefix: str, files: int) -> None:
    """All of it must have come. The store remembers what was there: no prefix comes twice."""
    folder = store.folder / BUCKET / prefix
    found = sum(path.suffix == ".jpg" for path in folder.rglob("*"))
    if found < files:
        raise SystemExit(f"only {found} of {files} files came")
    shutil.rmtree(folder)
