import asyncio
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from mirror import demo as demo_module
from mirror import logs
from mirror.cli.main import main
from mirror.core.report import Outcome, Report
from mirror.demo import OWN_COPY, OWN_PROFILE, OWN_SYNC, DemoError, _check_only, _Synced, demo
from mirror.destinations.lock import locked
from mirror.errors import ExitCode, LockedError, UnwritableError, UsageError
from mirror.profile.loading import load_profile


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    before = structlog.get_config()
    logs.configure(json_lines=True, level="error")
    yield
    structlog.configure(**before)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "_ASSETS", 60)


@dataclass(frozen=True)
class Ran:
    """A whole demo at `folder`, with nothing of its own elsewhere than in `home`."""

    folder: Path
    home: Path
    text: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder, home = tmp_path_factory.mktemp("parent") / "demo", tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "STATE_DIRECTORY"):
            patch.delenv(name, raising=False)
        return Ran(folder, home, said(folder))


def said(folder: Path | None) -> str:
    told: list[str] = []
    assert asyncio.run(demo(folder, say=told.append, quiet=True)) is ExitCode.OK
    return "\n".join(told)


def files(photos: Path) -> dict[str, str]:
    """Path and SHA-1 of every photo."""
    return {
        path.relative_to(photos).as_posix(): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in photos.rglob("*")
        if path.is_file() and ".mirror" not in path.parts
    }


# -- one demo --------------------------------------------------------------------------------------


def test_a_demo_mirrors_changes_and_proves_and_says_so(ran: Ran) -> None:
    first, second, third = re.findall(r"(\d+) requests, (\d+) of them for originals", ran.text)
    there = files(ran.folder / "photos")
    assert int(first[1]) + 2 == len(there)
    assert second[1] == "2"
    assert third[1] == "0"
    assert int(third[0]) < 20
    assert f"{len(there)} files OK" in ran.text
    assert "2025/05/01/birthday.jpg" in there
    assert re.search(r"Third sync, nothing changed:\n  \d+ unchanged\n", ran.text)


def test_what_is_told_fits_a_small_terminal(ran: Ran) -> None:
    lines = ran.text.replace(str(ran.folder), "/tmp/demo").splitlines()
    assert len(lines) <= 45
    assert [line for line in lines if len(line) > 80] == []


def test_the_trashed_photo_stays_and_the_policy_is_named(ran: Ran) -> None:
    found = re.search(r'  retained +(\S+) +\(on_removed = "keep"\)', ran.text)
    assert found
    assert found[1] in files(ran.folder / "photos")


def test_the_redated_photo_moves_without_being_fetched_again(ran: Ran) -> None:
    found = re.search(r"  moved +(\S+) +from (\S+)", ran.text)
    assert found
    there = files(ran.folder / "photos")
    assert found[1] in there
    assert f"{found[2]}/{Path(found[1]).name}" not in there


def test_photos_of_one_name_and_live_pairs_are_shown_side_by_side(ran: Ran) -> None:
    assert len(set(re.findall(r"2021/07/14/IMG_0001(?:-[0-9a-f]{8})?\.JPG", ran.text))) == 4
    (still,) = re.findall(r"(\S+)\.HEIC", ran.text)
    (video,) = re.findall(r"(\S+)\.MOV", ran.text)
    assert still == video


def test_the_profile_and_its_key_are_private_and_load_again(ran: Ran) -> None:
    profiles = ran.folder / "profiles"
    for path in (profiles / "demo.toml", profiles / "demo.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (mirror,) = load_profile(profiles / "demo.toml").mirrors
    assert mirror.destinations[0].path == str(ran.folder / "photos")
    key = (profiles / "demo.key").read_text().strip()
    assert key not in (profiles / "demo.toml").read_text()


def test_nothing_is_left_outside_the_folder(ran: Ran) -> None:
    assert list(ran.home.rglob("*")) == []
    known = json.loads((ran.folder / "state" / "destinations.json").read_text())
    assert list(known) == [str(ran.folder / "photos")]


@pytest.mark.usefixtures("small")
def test_without_a_folder_a_temporary_one_is_made_named_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = said(None)
    (folder,) = tmp_path.glob("immich-mirror-demo-*")
    assert f"\n  {folder}\n" in text
    assert files(folder / "photos")


@pytest.mark.usefixtures("small")
def test_without_sha1sum_the_files_are_hashed_here_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Verified with Python's hashlib (there is no sha1sum here)" in said(tmp_path / "demo")


# -- again -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_second_demo_in_the_same_folder_fetches_nothing_twice(tmp_path: Path) -> None:
    said(tmp_path / "demo")
    before = files(tmp_path / "demo" / "photos")
    text = said(tmp_path / "demo")
    assert "over the files of an earlier demo" in text
    assert " 0 originals fetched" in text
    assert files(tmp_path / "demo" / "photos") == before


@pytest.mark.usefixtures("small")
def test_a_second_demo_leaves_what_somebody_put_there(tmp_path: Path) -> None:
    said(tmp_path / "demo")
    mine = tmp_path / "demo" / "photos" / "2021" / "mine.txt"
    mine.write_text("mine")
    said(tmp_path / "demo")
    assert mine.read_text() == "mine"


@pytest.mark.usefixtures("small")
def test_a_folder_of_somebody_elses_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "demo.toml").write_text("# mine\n")
    with pytest.raises(UsageError, match="not empty"):
        said(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["profiles", "demo.toml"]


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError):
        said(tmp_path / "file")
    with pytest.raises(UnwritableError):
        said(tmp_path / "file" / "below")


# -- what goes wrong is told -----------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_demo_that_is_running_there_already_stops_this_one(tmp_path: Path) -> None:
    said(tmp_path / "demo")
    with locked(tmp_path / "demo" / "photos"), pytest.raises(LockedError):
        said(tmp_path / "demo")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", ["First sync", "Second sync"])
def test_a_sync_that_does_more_than_what_changed_ends_the_demo(tmp_path: Path, after: str) -> None:
    def say(paragraph: str) -> None:
        if after in paragraph:
            next((tmp_path / "demo" / "photos" / "2022").rglob("*.jpg")).unlink()

    with pytest.raises(DemoError, match="something else"):
        asyncio.run(demo(tmp_path / "demo", say=say, quiet=True))


def test_a_sync_that_does_less_than_what_changed_ends_the_demo() -> None:
    nothing = _Synced(report=Report("photos", "/photos"), actions=(), requests=(), duration_s=0)
    with pytest.raises(DemoError, match="something else"):
        _check_only(nothing, {"id": frozenset({Outcome.MOVED})})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("path", [os.environ["PATH"], ""])
def test_a_file_with_other_bytes_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path)

    def say(paragraph: str) -> None:
        if "Third sync" in paragraph:
            (tmp_path / "demo/photos/2025/05/01/birthday.jpg").write_bytes(b"scratched")

    with pytest.raises(DemoError, match=r"SHA1SUMS failed|birthday\.jpg"):
        asyncio.run(demo(tmp_path / "demo", say=say, quiet=True))


# -- for your own server ---------------------------------------------------------------------------


def test_the_profile_to_begin_with_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "photos.toml"
    path.write_text("\n".join(OWN_PROFILE))
    profile = load_profile(path)
    (mirror,) = profile.mirrors
    assert mirror.destinations[0].path == str(tmp_path / "photos")
    assert OWN_SYNC.split()[2] == profile.name


@pytest.mark.parametrize("line", [OWN_SYNC, OWN_COPY])
def test_the_commands_to_begin_with_exist(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, command, *rest = line.split()
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert [option for option in rest if option.startswith("--") and option not in told] == []
