"""The numbers that alarms are made of, read back by Prometheus' own parser."""

import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror.core.report import Outcome
from mirror.errors import UnwritableError
from mirror.metrics import HELP, PREFIX, metrics_text, write_metrics
from mirror.status import Status
from tests.integration.household import Household, household

HOSTILE = 'a "quoted"\\ name\nof two lines, ü and \udcff'


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Household]:
    async with household(tmp_path) as home:
        home.add_key(f'metrics = "{tmp_path}/family.prom"')
        yield home


class Metrics:
    """A file as Prometheus understands it."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    def of(self, name: str, mirror: str = "all", **labels: str) -> float:
        (value,) = [
            sample.value
            for sample in self.families[PREFIX + name].samples
            if {"mirror": mirror, **labels}.items() <= sample.labels.items()
        ]
        return value


def metrics(family: Household) -> Metrics:
    return Metrics((family.home / "family.prom").read_text())


async def test_a_run_leaves_its_numbers(family: Household):
    assert await family.codes() == [0]
    told = metrics(family)
    now = datetime.now(UTC).timestamp()
    assert now - 60 < told.of("last_success_timestamp_seconds") <= now
    assert now - 60 < told.of("last_run_timestamp_seconds") <= now
    assert 0 < told.of("last_run_duration_seconds") < 60
    assert told.of("last_run_exit_code") == 0
    assert told.of("last_run_assets", outcome="downloaded") == 3
    assert told.of("last_run_assets", outcome="failed") == 0
    assert told.of("last_run_received_bytes") == 600
    assert (told.of("files"), told.of("bytes")) == (3, 600)
    assert told.of("held") == told.of("damaged") == told.of("never_verified_files") == 0
    assert now - 60 < told.of("oldest_unverified_timestamp_seconds") <= now
    assert told.of("quarantine_files") == told.of("quarantine_bytes") == 0
    assert told.of("free_bytes") > 0
    assert told.of("destination_up") == 1


async def test_every_metric_has_its_help_and_every_outcome_its_sample(family: Household):
    await family.sync()
    families = metrics(family).families
    assert families.keys() == {PREFIX + name for name in HELP}
    assert all(found.documentation and found.type == "gauge" for found in families.values())
    samples = families[PREFIX + "last_run_assets"].samples
    assert {sample.labels["outcome"] for sample in samples} == {one.value for one in Outcome}
    assert samples[0].labels["destination"] == str(family.root)
    assert samples[0].labels["profile"] == "family"


async def test_a_run_that_fails_leaves_its_numbers_too(family: Household):
    await family.sync()
    success = metrics(family).of("last_success_timestamp_seconds")
    family.use_key("revoked-0123456789")
    assert await family.codes() == [3]
    told = metrics(family)
    assert told.of("last_run_exit_code") == 3
    assert told.of("last_success_timestamp_seconds") == success
    assert told.of("last_run_timestamp_seconds") > success
    assert "revoked" not in (family.home / "family.prom").read_text()


async def test_a_first_run_that_fails_has_a_success_of_never(family: Household):
    family.use_key("revoked-0123456789")
    assert await family.codes() == [3]
    told = metrics(family)
    assert told.of("last_success_timestamp_seconds") == 0
    assert PREFIX + "files" not in told.families


async def test_what_is_held_is_counted(family: Household):
    await family.sync()
    family.library.delete(*[asset.id for asset in family.library.own()])
    assert await family.codes() == [5]
    assert metrics(family).of("held") == 3


async def test_a_disk_that_is_away_is_down_and_its_success_is_still_told(family: Household):
    family.add_mirror("second")
    await family.sync()
    family.root.rename(family.home / "away")
    assert await family.codes() == [4, 0]
    told = metrics(family)
    assert told.of("destination_up") == 0
    assert told.of("last_success_timestamp_seconds") > 0
    assert told.of("last_run_exit_code") == 4
    assert told.of("destination_up", "second") == told.of("last_run_exit_code", "second") + 1 == 1


async def test_a_run_of_one_mirror_leaves_the_numbers_of_all(family: Household):
    family.add_mirror("second")
    await family.sync("second")
    told = metrics(family)
    assert told.of("last_success_timestamp_seconds", "second") > 0
    assert told.of("last_success_timestamp_seconds", "all") == 0


async def test_a_dry_run_leaves_none(family: Household):
    await family.sync(dry=True)
    assert not (family.home / "family.prom").exists()


async def test_a_file_that_cannot_be_written_is_a_warning(
    family: Household, log: list[dict[str, Any]]
):
    (family.home / "family.prom").mkdir()
    assert await family.codes() == [0]
    (warning,) = [line for line in log if line["event"] == "notice.failed"]
    assert (warning["level"], warning["action"]) == ("warning", "metrics")
    assert str(family.home / "family.prom") in warning["reason"]
    assert [path.name for path in family.home.glob(".family*")] == []


# -- the file --------------------------------------------------------------------------------------


def a_status(**changed: Any) -> Status:
    plain = Status(profile="family", mirror="all", account="me", destination="/photos")
    return replace(plain, **changed)


def test_names_that_a_stranger_chose_come_back_as_they_are():
    told = Metrics(metrics_text([a_status(destination=HOSTILE, mirror=HOSTILE)]))
    (sample,) = told.families[PREFIX + "destination_up"].samples
    assert sample.labels["destination"] == sample.labels["mirror"] == HOSTILE


def test_the_file_is_utf_8_whatever_is_in_it(tmp_path: Path):
    write_metrics(tmp_path / "a.prom", [a_status(destination=HOSTILE)])
    assert "of two lines, ü and ?" in (tmp_path / "a.prom").read_text("utf-8")


def test_everybody_may_read_it_and_nothing_else_is_left(tmp_path: Path):
    before = os.umask(0o077)
    try:
        write_metrics(tmp_path / "a.prom", [a_status()])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.prom").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["a.prom"]


def test_the_old_numbers_stay_where_new_ones_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "a.prom"
    write_metrics(file, [a_status()])
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableError, match="No space left"):
        write_metrics(file, [a_status(mirror="other")])
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.prom"]
