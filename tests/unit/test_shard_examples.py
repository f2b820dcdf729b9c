"""The examples of runs that split a mirror: all parts are started, each once."""

import json
import re
import shlex
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror.cli.main import make_parser
from mirror.core.model import Shard

PROJECT = Path(__file__).parents[2]
GUIDE = (PROJECT / "profiles/README.md").read_text()


@pytest.fixture
def job() -> dict[str, Any]:
    examples = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (found,) = (each for each in examples if "kind: Job" in each)
    told: dict[str, Any] = yaml.safe_load(found)
    return told


def parsed(words: list[str]) -> Namespace:
    assert words[0].rpartition("/")[2] == "mirror"
    return make_parser().parse_args(words[1:])


def started(job: dict[str, Any], index: int, folder: Path) -> Namespace:
    """What one pod of the job has our parser say."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program = folder / "mirror"
    program.write_text("#!/usr/bin/env python3\nimport json, sys\nprint(json.dumps(sys.argv))\n")
    program.chmod(0o755)
    told = subprocess.run(
        [*container["command"], *container["args"]],
        env={"PATH": f"{folder}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": str(index)},
        check=True,
        capture_output=True,
    )
    return parsed(json.loads(told.stdout))


def test_the_job_starts_every_shard_once(job: dict[str, Any], tmp_path: Path) -> None:
    count = job["spec"]["completions"]
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")

    shards = [started(job, index, tmp_path).shard for index in range(count)]

    assert shards == [Shard(number, count) for number in range(1, count + 1)]


def test_the_job_mounts_what_it_has(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    mounted = [each["name"] for each in container["volumeMounts"]]

    assert mounted == [each["name"] for each in pod["volumes"]]


def test_the_array_starts_every_shard_once() -> None:
    found = re.search(r"--array=1-(\d+)` with `([^`]*)`", GUIDE)
    assert found is not None
    count = int(found[1])

    lines = [found[2].replace("$SLURM_ARRAY_TASK_ID", str(at)) for at in range(1, count + 1)]

    assert [parsed(shlex.split(line)).shard for line in lines] == [
        Shard(number, count) for number in range(1, count + 1)
    ]


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="Debian package systemd")
def test_the_units_instance_is_the_shard() -> None:
    unit = (PROJECT / "systemd/mirror-shard@.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    (profile,) = re.findall(r"^Environment=PROFILE=(.*)$", unit, re.MULTILINE)
    instance = subprocess.run(
        ["systemd-escape", "--unescape", "3-16"], check=True, capture_output=True, text=True
    ).stdout.strip()

    told = parsed(shlex.split(line.replace("%I", instance).replace("${PROFILE}", profile)))

    assert (told.shard, told.profile) == (Shard(3, 16), "family")


def test_the_unit_is_confined_as_the_one_of_a_whole_profile() -> None:
    def settings(name: str) -> list[str]:
        lines = (PROJECT / "systemd" / name).read_text().splitlines()
        own = ("Description=", "ExecStart=", "Environment=", "#")
        return [line for line in lines if not line.startswith(own)]

    assert settings("mirror-shard@.service") == settings("mirror@.service")
