"""That a run is to stop, for work on other threads."""

import threading
from typing import Final

from mirror.errors import InterruptedRunError

# Set when somebody asked the run to stop: a thread cannot be cancelled, so whatever may take long
# on one looks here now and then.
stopping: Final = threading.Event()


def check_stopping() -> None:
    """Leave long work that only reads.

    Raises:
        InterruptedRunError: the run is to stop.
    """
    if stopping.is_set():
        raise InterruptedRunError("the run was interrupted")
