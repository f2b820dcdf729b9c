"""One run in a process of its own, told by one JSON argument; it may kill itself at a step.

A step is anything that changes a file system, by what it is: a rename, an unlink, a write, a sync.
`kill = {"of": ["rename"], "at": 7}` ends the process, as SIGKILL does, in front of the seventh
rename. Without a kill the number of steps is printed with the exit code.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from mirror import logs
from mirror.core.model import Destination, Mirror, NameRules
from mirror.destinations import folder
from mirror.immich.client import Client
from mirror.options import Options
from mirror.progress import Silent
from mirror.run import MirrorRun

_STEPS: dict[str, tuple[tuple[Any, str], ...]] = {
    "rename": ((folder, "_renameat2"), (os, "rename"), (os, "link")),
    "replace": ((os, "replace"),),
    "unlink": ((os, "unlink"), (os, "rmdir")),
    "mkdir": ((os, "mkdir"),),
    "write": ((os, "pwrite"), (os, "ftruncate"), (os, "utime")),
    "sync": ((folder, "_syncfs"), (os, "fsync")),
}


def watch(kill: dict[str, Any]) -> Counter[str]:
    """Count the steps, and die in front of the one that is told."""
    counted: Counter[str] = Counter()
    numbers = itertools.count(1)

    def counting(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **named: Any) -> Any:
            counted[kind] += 1
            if kind in kill.get("of", _STEPS) and next(numbers) == kill.get("at"):
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **named)

        return step

    for kind, places in _STEPS.items():
        for module, name in places:
            setattr(module, name, counting(kind, getattr(module, name)))
    return counted


async def main(told: dict[str, Any]) -> None:
    logs.configure(json_lines=True, level="warning")
    counted = watch(told.get("kill", {}))
    async with Client(told["url"], told["key"]) as client:
        await client.connect()
        run = MirrorRun(
            mirror=Mirror(
                name="me", account="me", layout=told["layout"], names=NameRules(told["names"])
            ),
            destination=Destination(path=told["root"], min_free_bytes=0),
            client=client,
            label=told["label"],
            known=None,
            options=Options(**told.get("options", {})),
            progress=Silent(),
        )
        report = await run.run()
    answer = {
        "exit_code": int(report.exit_code),
        "steps": counted,
        "why": str(report.error),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
