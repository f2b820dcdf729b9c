"""What a neighbour cannot give is had elsewhere; no fault of its is anybody's."""

from pathlib import Path
from typing import BinaryIO, cast

import pytest

from mirror.destinations import OpenDestination
from mirror.errors import InterruptedRunError, UnwritableError
from mirror.index import Index
from mirror.nearby import Neighbourhood


class Lost:
    """A destination elsewhere that cannot be reached any more."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def fetched(self, _path: str) -> BinaryIO:
        raise self._error


@pytest.mark.parametrize(
    "error", [OSError("gone"), ValueError("no such path"), UnwritableError("its server is gone")]
)
def test_what_a_lost_destination_has_is_not_to_be_had(tmp_path: Path, error: Exception):
    neighbour = Neighbourhood().add(tmp_path, is_remote=True)
    with Index(None) as index, neighbour.holding(index, cast("OpenDestination", Lost(error))):
        assert neighbour.fetched(tmp_path / "a.jpg") is None


def test_an_interruption_is_one(tmp_path: Path):
    neighbour = Neighbourhood().add(tmp_path, is_remote=True)
    lost = cast("OpenDestination", Lost(InterruptedRunError("the run is to stop")))
    with (
        Index(None) as index,
        neighbour.holding(index, lost),
        pytest.raises(InterruptedRunError),
    ):
        neighbour.fetched(tmp_path / "a.jpg")
