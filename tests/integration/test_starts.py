"""What is forked for the tests is like what starts anew: `starts.py`."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.starts import CAN_FORK, Started, anew, environment, forked, started

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="needs pidfd_open, and no MIRROR_STARTS=anew")

LOOK = """
import gc, json, locale, os, resource, signal, sys, threading, warnings

def stream(one):
    return one.encoding, one.errors, one.line_buffering, one.isatty(), one.fileno(), one.mode

print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "flags": repr(sys.flags),
    "environ": dict(os.environ), "folder": os.getcwd(),
    "descriptors": [os.readlink(f"/proc/self/fd/{number}").split(":")[0]
                    for number in range(64) if os.path.exists(f"/proc/self/fd/{number}")],
    "streams": [stream(one) for one in (sys.stdin, sys.stdout, sys.stderr)],
    "read": sys.stdin.read(),
    "signals": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "warnings": [sys.warnoptions, *map(repr, warnings.filters)],
    "encodings": [sys.getfilesystemencoding(), locale.getlocale(), locale.getencoding()],
    "group": os.getpgrp(), "session": os.getsid(0), "nice": os.nice(0), "mask": os.umask(0),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
               if name.startswith("RLIMIT_")},
    "threads": [threading.current_thread() is threading.main_thread(), threading.active_count(),
                len(os.listdir("/proc/self/task"))],
    "collects": [gc.isenabled(), gc.get_threshold()],
    "hooks": [sys.excepthook is sys.__excepthook__, sys.gettrace(), sys.getrecursionlimit()],
    "heavy": [name for name in ("obstore", "rich") if name in sys.modules],
}))
"""


async def said(process: Started) -> tuple[int | None, str, str]:
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def looked(process: Started) -> dict[str, Any]:
    code, out, err = await said(process)
    assert (code, err) == (0, "")
    seen: dict[str, Any] = json.loads(out)
    return seen


async def test_it_sees_what_it_would_see_had_it_started(tmp_path: Path):
    environ = environment(tmp_path, PLANTED_WORD="schön")
    words = ("-c", LOOK, "a word", "--another")
    expected = await looked(await anew(*words, folder=tmp_path, environ=environ))
    assert await looked(await forked(*words, folder=tmp_path, environ=environ)) == expected
    assert expected["environ"]["PLANTED_WORD"] == "schön"


async def test_a_module_sees_what_it_would_see_had_it_started(tmp_path: Path):
    (tmp_path / "looking.py").write_text(LOOK)
    words = ("-m", "looking", "a word")
    environ = environment(tmp_path)
    expected = await looked(await anew(*words, folder=tmp_path, environ=environ))
    assert await looked(await forked(*words, folder=tmp_path, environ=environ)) == expected


ENDS = {
    "by itself": "print('done')",
    "with a code": "import sys; print('done'); sys.exit(7)",
    "with words": "import sys; sys.exit('what is wrong')",
    "by an error": "print('before'); raise ValueError('what is wrong')",
    "killed": "import os; os.write(1, b'before'); os.kill(os.getpid(), 9)",
    "interrupted": "import os, signal; print('before'); os.kill(os.getpid(), signal.SIGINT)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "with a thread": "import threading; threading.Timer(0.05, print, ['done']).start()",
    "at its end": "import atexit; atexit.register(print, 'done'); print('before')",
    "at once": "import os; print('lost'); os._exit(3)",
    "with a core's signal": "import os, signal; os.kill(os.getpid(), signal.SIGABRT)",
}


@pytest.mark.parametrize("how", ENDS)
async def test_it_ends_as_it_would_had_it_started(tmp_path: Path, how: str):
    words, environ = ("-c", ENDS[how]), environment(tmp_path)
    code, out, err = await said(await anew(*words, folder=tmp_path, environ=environ))
    again = await said(await forked(*words, folder=tmp_path, environ=environ))
    assert (*again[:2], again[2].splitlines()[-1:]) == (code, out, err.splitlines()[-1:])


async def test_it_is_killed_by_who_started_it(tmp_path: Path):
    words = ("-c", "import time; print('here', flush=True); time.sleep(60)")
    process = await forked(*words, folder=tmp_path, environ=environment(tmp_path))
    assert process.returncode is None
    os.kill(process.pid, 0)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    process.kill()  # nobody any more


async def test_of_several_at_once_none_holds_what_is_anothers(tmp_path: Path):
    environ = environment(tmp_path)
    waits = ("-c", "import time; time.sleep(60)")
    waiting = [await forked(*waits, folder=tmp_path, environ=environ) for _ in range(4)]
    seen = await looked(await forked("-c", LOOK, folder=tmp_path, environ=environ))
    assert len(seen["descriptors"]) == 3
    for process in waiting:
        process.kill()
    assert [await said(process) for process in waiting] == [(-signal.SIGKILL, "", "")] * 4


async def test_more_than_a_pipe_holds_is_told(tmp_path: Path):
    words = ("-c", "import sys; sys.stderr.write('e' * 999_999); print('o' * 999_999, end='')")
    process = await forked(*words, folder=tmp_path, environ=environment(tmp_path))
    assert await said(process) == (0, "o" * 999_999, "e" * 999_999)


async def test_one_after_the_other_has_another_order_of_its_sets(tmp_path: Path):
    words, environ = ("-c", "print(hash('a word'))"), environment(tmp_path)
    told = [await said(await forked(*words, folder=tmp_path, environ=environ)) for _ in range(2)]
    assert told[0] != told[1]


LOADED = "import sys; print('mirror.run' in sys.modules)"


async def test_only_the_first_of_a_command_starts_anew(tmp_path: Path):
    words, environ = ("-c", LOADED, "aword", tmp_path.name), environment(tmp_path)
    told = [await said(await started(*words, folder=tmp_path, environ=environ)) for _ in range(3)]
    assert [out for _, out, _ in told] == ["False\n", "True\n", "True\n"]


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "TZ", "LANG", "AWS_REGION", "NO_COLOR"])
async def test_with_variables_that_are_read_early_it_starts_anew(tmp_path: Path, name: str):
    words, environ = ("-c", LOADED), environment(tmp_path, **{name: "0"})
    for _ in range(2):
        told = await said(await started(*words, folder=tmp_path, environ=environ))
        assert told[1] == "False\n"
