"""The list of checksums is there, and true, whatever became of it since it was written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import ExitCode
from tests.integration.mirroring import mirrored, photos, verified

Log = list[dict[str, Any]]


def removed(sums: Path) -> None:
    sums.unlink()


def emptied(sums: Path) -> None:
    sums.write_bytes(b"")


def shortened(sums: Path) -> None:
    sums.write_bytes(sums.read_bytes()[:-10])


def another_hash(sums: Path) -> None:
    data = bytearray(sums.read_bytes())
    data[0] = ord("0") if data[0] != ord("0") else ord("1")
    sums.write_bytes(data)
    os.utime(sums, (1, 1))  # as a program does that brings an older one back


RUINED = [removed, emptied, shortened, another_hash]
Ruin = Callable[[Path], None]


def lost(log: Log) -> list[Any]:
    return [(it["level"], it["path"]) for it in log if it["event"] == "manifest.lost"]


WARNED = ("warning", ".mirror/SHA1SUMS")


@pytest.mark.parametrize("ruin", RUINED)
async def test_a_run_without_changes_brings_it_back_and_says_so(
    tmp_path: Path, ruin: Ruin, log: Log
):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        sums = me.root / ".mirror/SHA1SUMS"
        before = sums.read_bytes()
        assert lost(log) == []
        ruin(sums)
        await me.synced()
        assert sums.read_bytes() == before
        assert lost(log) == [WARNED]
        await me.assert_settled()
        assert lost(log) == [WARNED]


@pytest.mark.parametrize("ruin", RUINED)
async def test_a_dry_run_says_so_and_leaves_it(tmp_path: Path, ruin: Ruin, log: Log):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        sums = me.root / ".mirror/SHA1SUMS"
        ruin(sums)
        left = sums.read_bytes() if sums.exists() else None
        await me.planned()
        assert lost(log) == [WARNED]
        assert (sums.read_bytes() if sums.exists() else None) == left


async def test_another_time_alone_is_nothing(tmp_path: Path, log: Log):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        sums = me.root / ".mirror/SHA1SUMS"
        os.utime(sums, (1, 1))  # the tree was copied
        await me.synced()
        assert lost(log) == []
        assert sums.stat().st_mtime == 1


async def test_verify_reads_it_too(tmp_path: Path, log: Log):
    async with mirrored(tmp_path, photos(3)) as me:
        await me.synced()
        sums = me.root / ".mirror/SHA1SUMS"
        before, look = sums.read_bytes(), sums.stat()
        another_hash(sums)
        os.utime(sums, ns=(look.st_atime_ns, look.st_mtime_ns))  # as rot does
        await me.synced()
        assert lost(log) == []
        assert (await verified(me)).exit_code is ExitCode.OK
        assert lost(log) == [WARNED]
        assert sums.read_bytes() == before


async def test_an_empty_mirror_has_none_and_that_is_no_loss(tmp_path: Path, log: Log):
    async with mirrored(tmp_path, photos(0)) as me:
        await me.synced()
        await me.synced()
        assert lost(log) == []
