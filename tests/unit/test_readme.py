"""The README promises nothing that is not there, and names all that is."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import errors
from mirror.cli.main import make_parser
from mirror.errors import ExitCode, MirrorError
from tests.stories import STORIES

_PROJECT = Path(__file__).parents[2]
_README = (_PROJECT / "README.md").read_text()


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every command, those of a group by their own name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                deeper = list(_commands(command))
                yield from deeper or [name]


_COMMANDS = list(_commands(make_parser()))


def _subclasses(of: type[MirrorError]) -> list[type[MirrorError]]:
    return [of, *(deeper for direct in of.__subclasses__() for deeper in _subclasses(direct))]


def _codes() -> set[int]:
    table = _README.partition("## Exit codes")[2].partition("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}


def test_every_exit_code_that_an_error_carries_is_in_the_table() -> None:
    assert {int(error.exit_code) for error in _subclasses(MirrorError)} <= _codes()


def test_the_table_has_no_code_that_nothing_produces() -> None:
    carried = {int(error.exit_code) for error in _subclasses(MirrorError)}
    assert _codes() == carried | {ExitCode.OK, ExitCode.HELD, ExitCode.DAMAGED, ExitCode.LIMIT}


def test_every_code_of_the_table_comes_out_of_a_story() -> None:
    assert _codes() == {int(code) for code, _ in STORIES}


def test_the_order_of_codes_is_the_programs() -> None:
    (order,) = re.findall(r"first in the order ([\d, ]+)\.", _README)
    wanted = [code for code in errors._PRECEDENCE if code in _codes()]
    assert [int(code) for code in order.split(", ")] == wanted


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_is_mentioned(command: str) -> None:
    assert re.search(rf"`(mirror )?((profile|quarantine) )?{command}[ `]", _README)


def test_no_command_is_mentioned_that_does_not_exist() -> None:
    mentioned = set(re.findall(r"`mirror (\w+)", _README))
    assert mentioned <= {*_COMMANDS, "profile", "quarantine"}


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", _README))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (_PROJECT / link).is_file()
