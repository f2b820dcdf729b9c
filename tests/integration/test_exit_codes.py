"""Each exit code comes out of the command line, with a word of what is wrong."""

from pathlib import Path

import pytest

from mirror.errors import ExitCode
from mirror.sandbox import Sandbox, sample_library
from tests.stories import STORIES, Stage, Told


@pytest.mark.parametrize(
    ("code", "story"), STORIES, ids=[f"{int(code)}-{story.__name__}" for code, story in STORIES]
)
async def test_a_story_ends_with_its_code(tmp_path: Path, code: ExitCode, story: Told) -> None:
    async with Sandbox(sample_library(12)) as sandbox:
        ended = await story(Stage(tmp_path, sandbox))

    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    assert "internal" not in ended.said
    assert ended.said or code is ExitCode.OK
