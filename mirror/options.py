"""What the command line says of a run, beyond the profile."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mirror.core.guard import Allowed
from mirror.core.model import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """For every mirror of the command."""

    dry: bool = False
    trusts_times: bool = True  # False: what has its size and mtime is hashed all the same
    rebind: bool = False
    new_destination: bool = False
    relist: bool = False  # what is remembered of the accounts is not trusted
    allowed: Allowed = field(default_factory=Allowed)
    removes: bool = True  # False: `copy`, where several selections share a destination
    shard: Shard | None = None  # what of each mirror this run is about; None: all of it
    wait_s: float = 0.0  # how long another run that holds the destination is waited for
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)  # of this machine
