"""rclone, which knows nothing of mirrors: is the tree what the model says?"""

import shutil
import subprocess
from pathlib import Path

from tests.machine.checking import Checker
from tests.machine.machine import Machine

RCLONE = shutil.which("rclone")


def lay_out(checker: Checker, folder: Path) -> int:
    """What the model says must lie in the tree: its paths, and bytes of its own; how many files."""
    world = checker.world
    files = {held.path: world.made[next(iter(held.sha1s))] for held in checker.memory.held.values()}
    files |= {
        path: world.made[theirs.seen.sha1]
        for path, theirs in world.hands.theirs.items()
        if not theirs.seen.link
    }
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return len(files)


def assert_rclone_agrees(expected: Path, tree: Path) -> None:
    """Every byte of either folder is read and compared; our own folder left out."""
    assert RCLONE is not None
    command = f"{RCLONE} check --config= --download --skip-links --combined=- --exclude=/.mirror/**"
    ended = subprocess.run(
        [*command.split(), str(expected), str(tree)], capture_output=True, text=True, check=False
    )
    differences = [line for line in ended.stdout.splitlines() if not line.startswith("= ")]
    assert ended.returncode == 0, (differences, ended.stderr)
    assert not differences


class Judged(Machine):
    """Histories at whose end rclone is asked."""

    def at_end(self) -> None:
        expected = self.folder / "expected"
        expected.mkdir()
        lay_out(self.checker, expected)
        if self.world.me.root.exists():
            assert_rclone_agrees(expected, self.world.me.root)
            self.seeming.judged += 1
