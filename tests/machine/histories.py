"""Histories as text: drawn by hypothesis, played again, and cut down to what matters in them."""

import re
import traceback
from collections.abc import Iterable

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from mirror.core.model import OnGone
from tests.machine.machine import Machine


def draw(machine: type[Machine], *, histories: int, steps: int, number: int | None) -> None:
    """Play so many histories; without a number the same ones each time.

    Raises:
        AssertionError: one went wrong; its notes tell the history.
    """
    run_state_machine_as_test(
        machine if number is None else seed(number)(machine),
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            derandomize=number is None,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # `cut` is quicker than hypothesis' own ways
        ),
    )


def history_of(error: BaseException) -> list[str]:
    """The lines that hypothesis tells with an error."""
    return lines_of("\n".join(getattr(error, "__notes__", [])))


def lines_of(text: str) -> list[str]:
    """The steps of a history, which may stand among other text."""
    lines = (line.strip() for line in text.splitlines())
    return [
        re.sub(r"<(OnGone\.\w+): '\w+'>", r"\1", line)
        for line in lines
        if line.startswith("state.") and "teardown" not in line
    ]


def play(lines: Iterable[str], machine: type[Machine] = Machine) -> Exception | None:
    """What goes wrong in a history, if anything does."""
    state = machine()
    error: Exception | None = None
    try:
        for line in lines:
            eval(line, {"state": state, "OnGone": OnGone})
    except Exception as wrong:  # noqa: BLE001  whatever it is
        error = wrong
    try:
        state.teardown()
    except Exception as wrong:  # noqa: BLE001
        error = error or wrong
    return error


def cut(lines: list[str], machine: type[Machine] = Machine) -> list[str]:
    """The steps without which the same does not go wrong; all of them if it does not again."""
    wanted = _kind(play(lines, machine))
    if wanted is None:
        return lines
    size = max(1, len(lines) // 3)
    while size:
        lines, before = _without(lines, size, wanted, machine), lines
        size = size if size == 1 and lines != before else size // 2
    return lines


def _without(
    lines: list[str], size: int, wanted: tuple[str, ...], machine: type[Machine]
) -> list[str]:
    at = 1  # the first line begins the world
    while at < len(lines):
        rest = lines[:at] + lines[at + size :]
        if _kind(play(rest, machine)) == wanted:
            lines = rest
        else:
            at += size
    return lines


def _kind(error: Exception | None) -> tuple[str, ...] | None:
    """What is the same when the same goes wrong."""
    if error is None:
        return None
    places = [place.name for place in traceback.extract_tb(error.__traceback__)]
    return type(error).__name__, places[-1], re.sub("[^a-z ]", "", str(error)[:14])
