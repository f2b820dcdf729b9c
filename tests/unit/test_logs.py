"""Where log lines go, and that a run does not stop where they cannot."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mirror import logs
from mirror.cli.shared import complain
from mirror.errors import InternalError
from mirror.events import Event, emit
from mirror.logs import LogFile

FULL = Path("/dev/full")


class HungUp(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@contextmanager
def log_file(path: Path) -> Iterator[LogFile]:
    file = LogFile(path)
    try:
        yield file
    finally:
        with suppress(OSError):
            file._file.close()


@pytest.mark.parametrize("stream", [HungUp, closed])
def test_a_stream_that_takes_no_lines_stops_nothing(stream: Callable[[], io.StringIO]):
    logs.configure(json_lines=True, level="info", stream=stream())
    emit("info", Event.LISTING_INCOMPLETE, reason="one")
    emit("info", Event.LISTING_INCOMPLETE, reason="two")


def test_a_traceback_tells_no_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MIRROR_TRACEBACK", "1")

    def fail(api_key: str) -> None:
        raise KeyError(len(api_key))

    try:
        fail("planted" * 3)
    except KeyError as error:
        complain(InternalError.of(error))

    said = capsys.readouterr().err
    assert "in fail" in said
    assert "plantedplanted" not in said


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_log_file_on_a_full_disk_stops_nothing():
    with log_file(FULL) as file:
        file.write("one")
        file.write("two")


def test_a_log_file_whose_folder_went_is_written_again_when_it_is_back(tmp_path: Path):
    path = tmp_path / "logs/mirror.jsonl"
    with log_file(path) as file:
        file.write("one")
        path.unlink()
        path.parent.rmdir()
        file.write("two")
        file.write("three")
        path.parent.mkdir()
        path.touch()  # as logrotate does
        file.write("four")
    assert path.read_text() == "four\n"


def test_what_the_summary_tells_is_not_said_twice_to_a_person_and_never_kept_from_a_file(
    tmp_path: Path,
) -> None:
    out, file = io.StringIO(), tmp_path / "log"
    logs.configure(json_lines=False, level="warning", log_file=file, stream=out, summary=True)

    emit("error", Event.ASSET_FAILED, path="a.jpg", error_message="gone")
    for event in (Event.ASSET_DAMAGED, Event.ASSET_DRIFTED, Event.ASSET_MISSING):
        emit("warning", event, path="b.jpg", reason="as `verify` found it")
    emit("warning", Event.NAME_VANISHED, reason="no such album")

    assert out.getvalue() == "warning: name.vanished: no such album\n"
    assert "asset.failed" in file.read_text()
    assert "asset.missing" in file.read_text()
    logs.configure(json_lines=False, level="warning", stream=out)  # lets go of the file
