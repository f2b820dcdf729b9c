"""The state machine, as long as there is time for it beside everything else."""

import pytest

from tests.machine.histories import cut, draw, history_of
from tests.machine.judge import RCLONE, Judged
from tests.machine.machine import Machine
from tests.machine.world import Seeming

STEPS = 2000
STEPS_A_HISTORY = 30


def played(machine: type[Machine], steps: int) -> Seeming:
    """What was tried; a history that goes wrong is cut to what matters in it."""
    machine.seeming = Seeming()
    histories = steps // STEPS_A_HISTORY + 5  # hypothesis begins with a very short one
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
