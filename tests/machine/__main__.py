"""The long run: `python -m tests.machine --steps 50000 --seed 1`; its coverage goes into a file."""

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

import structlog

from tests.machine.histories import cut, draw, history_of, lines_of, play
from tests.machine.judge import RCLONE, Judged
from tests.machine.machine import Machine
from tests.machine.world import Seeming

HERE = Path(__file__).parent
STEPS_A_HISTORY = 30
HISTORIES_AT_ONCE = 50


def main() -> int:
    """Play until there were enough steps, or one goes wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", type=Path, default=HERE / "coverage.json")
    parser.add_argument("--replay", type=Path, help="play the history in this file, and cut it")
    told = parser.parse_args()
    structlog.configure(processors=[_drop])
    if told.replay:
        return _tell(lines_of(told.replay.read_text()))
    begun_s = time.monotonic()
    machine = Judged if RCLONE else Machine
    number = told.seed
    while machine.seeming.steps < told.steps:
        try:
            draw(machine, histories=HISTORIES_AT_ONCE, steps=STEPS_A_HISTORY, number=number)
        except AssertionError as error:
            print(f"seed {number}: {error}")
            return _tell(history_of(error))
        print(f"seed {number}: {machine.seeming.steps} steps", flush=True)
        number += 1
    _write(told.coverage, machine.seeming, (told.seed, number - 1), time.monotonic() - begun_s)
    return 0


def _drop(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


def _tell(lines: list[str]) -> int:
    lines = cut(lines)
    error = play(lines)
    print("\n".join(lines))
    if error is not None:
        print("".join(traceback.format_exception(error)))
    return int(error is not None)


def _write(path: Path, seeming: Seeming, seeds: tuple[int, int], duration_s: float) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    told = {
        "command": f"python -m tests.machine --steps {seeming.steps} --seed {seeds[0]}",
        "seeds": f"{seeds[0]} to {seeds[1]}, {HISTORIES_AT_ONCE} histories each",
        "commit": commit.stdout.strip(),
        "duration_s": round(duration_s),
        **seeming.told(),
    }
    path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
