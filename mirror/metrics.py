"""What is known of the mirrors of a profile, in a file that Prometheus' node_exporter reads.

Source: the text format, https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4), and
node_exporter's textfile collector, which reads every `*.prom` of its folder.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mirror import __version__
from mirror.core.report import Outcome
from mirror.errors import UnwritableError
from mirror.last_run import LastRun
from mirror.status import Status
from mirror.whole import replace_file

PREFIX: Final = "immich_mirror_"

# The name of each metric, without the prefix, and what it says.
HELP: Final[Mapping[str, str]] = {
    "build_info": "Always 1; the version that wrote this file.",
    "destination_up": "Whether the destination can be looked at: mounted, readable and ours.",
    "last_success_timestamp_seconds": "The end of the last run with exit code 0; 0: none yet.",
    "last_run_timestamp_seconds": "The end of the last run.",
    "last_run_duration_seconds": "How long the last run took.",
    "last_run_exit_code": "What became of the last run; 0: in sync.",
    "last_run_assets": "Assets of the last run by what became of them.",
    "last_run_received_bytes": "What the last run downloaded.",
    "held": "What the last run held, and waits for a person.",
    "files": "Files kept.",
    "bytes": "What they take.",
    "retained_files": "Of them, those whose asset is no longer listed.",
    "damaged": "Originals that the server sends with other bytes than it lists.",
    "never_verified_files": "Files whose bytes were never compared with their checksum.",
    "oldest_unverified_timestamp_seconds": (
        "When the bytes of that file were last compared with their checksum"
        " that has waited longest for it."
    ),
    "quarantine_files": "Files in quarantine.",
    "quarantine_bytes": "What they take.",
    "free_bytes": "What may still be written at the destination.",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric."""

    name: str
    labels: Mapping[str, str]
    value: float


def metrics_text(statuses: Sequence[Status]) -> str:
    """All of them, each metric with its help and type; every one is a gauge."""
    samples = [Sample("build_info", {"version": __version__}, 1)]
    samples += [sample for status in statuses for sample in _samples(status)]
    return "".join(line for name in HELP for line in _lines(name, samples))


def write_metrics(path: Path, statuses: Sequence[Status]) -> None:
    """Replace the file in one step, so that nobody reads a part of it. Blocks.

    Raises:
        UnwritableError: its folder cannot be written.
    """
    content = metrics_text(statuses).encode("utf-8", "replace")
    try:
        replace_file(path, content, mode=0o644)  # another user reads it
    except OSError as error:
        raise UnwritableError(
            f"{path}: the metrics cannot be written",
            why=error.strerror or str(error),
            hint="the folder must exist, and this user must be able to write to it",
        ) from error


# -- what each says --------------------------------------------------------------------------------


def _samples(status: Status) -> Iterator[Sample]:
    labels = {
        "profile": status.profile,
        "mirror": status.mirror,
        "destination": status.destination,
    }
    for name, value in _values(status):
        yield Sample(name, labels, value)
    counts = status.last.counts if status.last else {}
    for outcome in Outcome:
        labelled = {**labels, "outcome": outcome.value}
        yield Sample("last_run_assets", labelled, counts.get(outcome.value, 0))


def _values(status: Status) -> Iterator[tuple[str, float]]:
    yield "destination_up", status.error is None
    yield "last_success_timestamp_seconds", _seconds(status.last_success_at)
    if status.last is not None:
        yield from _run_values(status.last)
    if status.stored is not None:
        stored = status.stored
        yield "files", stored.files
        yield "bytes", stored.size_bytes
        yield "retained_files", stored.retained_files
        yield "damaged", stored.damaged
        yield "never_verified_files", stored.files - stored.verified_files
        yield "quarantine_files", stored.quarantined_files
        yield "quarantine_bytes", stored.quarantined_bytes
        if stored.oldest_verified_at is not None:
            yield "oldest_unverified_timestamp_seconds", _seconds(stored.oldest_verified_at)
    if status.free_bytes is not None:
        yield "free_bytes", status.free_bytes


def _run_values(last: LastRun) -> Iterator[tuple[str, float]]:
    yield "last_run_timestamp_seconds", _seconds(last.ended_at)
    yield "last_run_duration_seconds", last.duration_s
    yield "last_run_exit_code", last.exit_code
    yield "last_run_received_bytes", last.received_bytes
    yield "held", max(last.counts.get(Outcome.HELD.value, 0), len(last.holds))


def _seconds(time: datetime | None) -> float:
    return 0 if time is None else round(time.timestamp(), 3)


# -- the format ------------------------------------------------------------------------------------


def _lines(name: str, samples: Iterable[Sample]) -> Iterator[str]:
    mine = [sample for sample in samples if sample.name == name]
    if not mine:
        return
    yield f"# HELP {PREFIX}{name} {_escaped(HELP[name])}\n# TYPE {PREFIX}{name} gauge\n"
    for sample in mine:
        labels = ",".join(
            f'{label}="{_escaped(value, quoted=True)}"' for label, value in sample.labels.items()
        )
        yield f"{PREFIX}{name}{{{labels}}} {_number(sample.value)}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str, *, quoted: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped
