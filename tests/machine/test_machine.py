"""The state machine, as long as there is time for it beside everything else."""

import pytest

from tests.machine.histories import cut, draw, history_of, lines_of, play
from tests.machine.judge import RCLONE, Judged
from tests.machine.machine import Machine
from tests.machine.world import Seeming

ONCE_WRONG = {
    "a photo that another id was given, and that then changed, is not looked for": """
        state.begin(version='3.1.0', transfers=4, photos=3, quarantine_days=2,
            on_removed=OnGone.KEEP, on_unmatched=OnGone.KEEP)
        state._check()
        state.reinstall()
        state.sync()
        state.replace(number=9)
    """,
    "a server that was accepted as restored stays accepted also when nothing is listed": """
        state.begin(version='3.1.0', transfers=1, photos=2, quarantine_days=2,
            on_removed=OnGone.QUARANTINE, on_unmatched=OnGone.KEEP)
        state.jump(hours=-20)
        state._check()
        state.show(number=1, visibility='archive')
        state.show(number=2, visibility='hidden')
    """,
    "an earlier version goes to quarantine, also where the new one lies already": """
        state.begin(version='3.1.0', transfers=1, photos=4, quarantine_days=2,
            on_removed=OnGone.DELETE, on_unmatched=OnGone.KEEP)
        state._check()
        state.edit_layout(layout='{filename}')
        state.replace(number=6)
        state.put_copy(name='b.jpg', number=2, other=5)
    """,
    "a run after one in which the newest photo went asks and writes nothing": """
        state.begin(version='2.7.5', transfers=1, photos=5, quarantine_days=30,
            on_removed=OnGone.QUARANTINE, on_unmatched=OnGone.DELETE)
        state.wait(days=40)
        state._check()
        state.trash(number=0)
    """,
}
STEPS = 2000
STEPS_A_HISTORY = 30


def played(machine: type[Machine], steps: int) -> Seeming:
    """What was tried; a history that goes wrong is cut to what matters in it."""
    machine.seeming = Seeming()
    histories = steps // STEPS_A_HISTORY + 20  # some of hypothesis' are short
    try:
        draw(machine, histories=histories, steps=STEPS_A_HISTORY, number=None)
    except AssertionError as error:
        error.add_note("\n".join(["cut down:", *cut(history_of(error), machine)]))
        raise
    return machine.seeming


def test_anything_in_any_order_ends_with_the_tree_that_the_model_has():
    class Short(Machine):
        """With a count of its own."""

    assert played(Short, STEPS).steps >= STEPS


@pytest.mark.skipif(RCLONE is None, reason="needs rclone (Debian: rclone)")
def test_rclone_finds_no_difference_between_the_tree_and_what_the_model_lays_out():
    class Short(Judged):
        """With a count of its own."""

    assert played(Short, 200).judged > 5


@pytest.mark.parametrize("history", ONCE_WRONG.values(), ids=ONCE_WRONG)
def test_what_once_went_wrong_goes_well(history: str):
    assert play(lines_of(history.replace(",\n", ","))) is None
