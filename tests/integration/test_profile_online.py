"""`mirror profile check --online`: every account is asked, every destination looked at."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror import online
from mirror.destinations.identity import Known
from mirror.immich.client import RetryPolicy
from mirror.last_run import LastRuns
from mirror.online import tried
from mirror.online_text import findings_json
from mirror.sandbox import sample_library
from mirror.sandbox.faults import Answered
from mirror.status import Memory
from tests.integration.command import mirror
from tests.integration.household import Household, household
from tests.integration.mirroring import no_wait, photos, whole
from tests.integration.test_status import on_a_terminal

NOT_FOUND = Answered(404, b'{"message":"Not Found"}', {"Content-Type": "application/json"})


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "RETRY", RetryPolicy(attempts=2, sleep=no_wait))


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Household]:
    async with household(tmp_path) as home:
        yield home


async def found(family: Household) -> dict[str, Any]:
    memory = Memory(Known(family.state), LastRuns(family.state))
    findings = await tried(family.profile, memory, allow_unknown_server=False)
    told: dict[str, Any] = json.loads(json.dumps(findings_json(findings)))
    return told


def codes(problems: list[dict[str, str]]) -> list[str]:
    return [problem["code"] for problem in problems]


def add_account(family: Household, name: str, key: str, server: str = "") -> Path:
    """An account with a mirror of its own."""
    (family.home / f"{name}.key").write_text(key)
    text = family.file.read_text()
    if 'account = "me"' not in text:
        text = text.replace("[mirrors.all]", '[mirrors.all]\naccount = "me"')
    family.file.write_text(
        f'{text}\n[accounts.{name}]\napi_key = {{ file = "{family.home}/{name}.key" }}\n'
        + (f'server = "{server}"\n' if server else "")
    )
    return family.add_mirror(name, f'account = "{name}"')


# -- the account -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.1.0", "2.7.5"])
async def test_a_key_that_suffices_is_told_with_whose_it_is(tmp_path: Path, version: str):
    async with household(tmp_path, sample_library(20, version=version)) as family:
        told = await found(family)
        (account,) = told["accounts"]
        assert told["exit_code"] == 0
        assert account["server"] == f"{family.sandbox.url}/api"
        assert account["server_version"] == version
        assert account["user_id"] == family.sandbox.owner_id
        assert account["key_name"] == family.sandbox.key("minimum").name
        assert account["permissions"] == {
            "granted": ["asset.download", "asset.read"],
            "lacking": [],
            "beyond": [],
            "changing": [],
        }
        assert abs(account["clock_ahead_s"]) < 30
        assert account["problems"] == account["warnings"] == []


async def test_a_key_that_may_read_its_user_tells_the_name(family: Household):
    family.sandbox.key("minimum").permissions.append("user.read")
    (account,) = (await found(family))["accounts"]
    assert account["user_name"] == family.library.users[family.sandbox.owner_id].name
    assert account["permissions"]["beyond"] == []


async def test_a_key_that_can_write_is_warned_about(family: Household):
    family.sandbox.key("minimum").permissions += ["asset.view", "asset.delete"]
    told = await found(family)
    (account,) = told["accounts"]
    assert told["exit_code"] == 0
    assert account["permissions"]["beyond"] == ["asset.delete", "asset.view"]
    assert account["warnings"] == ["the key can change things on the server (asset.delete)"]


async def test_a_key_that_may_do_everything_is_warned_about(family: Household):
    family.use_key(family.sandbox.api_keys["all"])
    (account,) = (await found(family))["accounts"]
    assert account["permissions"]["changing"] == ["all"]
    assert "the key may do everything" in account["warnings"][0]


@pytest.mark.parametrize("permission", ["asset.read", "asset.download"])
async def test_a_permission_that_is_missing_is_named_once(family: Household, permission: str):
    family.sandbox.key("minimum").permissions.remove(permission)
    told = await found(family)
    (account,) = told["accounts"]
    assert told["exit_code"] == 3
    assert account["permissions"]["lacking"] == [permission]
    (problem,) = account["problems"]
    assert problem["code"] == "permission-missing"
    assert permission in problem["message"]


async def test_what_a_filter_needs_is_missing_for_this_profile_alone(family: Household):
    family.add_mirror("tagged", 'filter = { tags = ["x"] }')
    told = await found(family)
    assert told["accounts"][0]["permissions"]["lacking"] == ["tag.read"]
    plain, tagged = told["mirrors"]
    assert plain["assets"] == 3
    assert codes(tagged["problems"]) == ["permission-missing"]
    assert told["accounts"][0]["unselected"] is None


async def test_a_server_that_does_not_tell_permissions_is_tried_all_the_same(family: Household):
    family.sandbox.faults.add(NOT_FOUND, path="/api/api-keys/me")
    told = await found(family)
    assert told["exit_code"] == 0
    assert told["accounts"][0]["permissions"] is None
    assert told["accounts"][0]["warnings"] == ["the server does not tell what the key may do"]
    family.sandbox.key("minimum").permissions.remove("asset.download")
    told = await found(family)
    assert told["exit_code"] == 3
    assert codes(told["mirrors"][0]["problems"]) == ["permission-missing"]


async def test_one_accounts_failure_hides_nothing_of_another(family: Household):
    add_account(family, "bob", "revoked-0123456789")
    add_account(family, "carol", "any-0123456789", "http://127.0.0.1:1")
    told = await found(family)
    me, bob, carol = told["accounts"]
    assert me["problems"] == []
    assert told["mirrors"][0]["assets"] == 3
    assert codes(bob["problems"]) == ["key-refused"]
    assert codes(carol["problems"]) == ["server-unreachable"]
    assert told["exit_code"] == 3
    assert all(mirror["destinations"][0]["free_bytes"] for mirror in told["mirrors"])
    assert "0123456789" not in json.dumps(told)


async def test_clocks_that_differ_are_warned_about(family: Household):
    family.library.jump(timedelta(hours=2))
    (account,) = (await found(family))["accounts"]
    assert account["clock_ahead_s"] == pytest.approx(-7200, abs=30)
    assert "clocks" in account["warnings"][0]


# -- what is selected ------------------------------------------------------------------------------


async def test_own_assets_that_no_mirror_selects_are_counted(family: Household):
    first, second, _ = family.library.own()
    family.library.archive(first.id)
    family.library.trash(second.id)
    (account,) = (await found(family))["accounts"]
    assert account["own_assets"] == 2
    assert account["unselected"] == {"assets": 1, "archived": 1, "live_photo_videos": 0}
    family.add_mirror("archive", 'filter = { visibility = "archive" }')
    (account,) = (await found(family))["accounts"]
    assert account["unselected"]["assets"] == 0


async def test_the_videos_of_live_photos_that_a_mirror_leaves_out_are_told(tmp_path: Path):
    library = photos(2)
    still, video = library.own()
    library.link_live_photo(still.id, video.id)
    async with household(tmp_path, library) as family:
        family.add_key("[defaults]\nlive_photos = 'still'")
        text = family.file.read_text().splitlines()
        family.file.write_text("\n".join([text[2], *text[:2], *text[3:]]))
        told = await found(family)
        assert told["mirrors"][0]["assets"] == 1
        assert told["accounts"][0]["own_assets"] == 2
        assert told["accounts"][0]["unselected"]["live_photo_videos"] == 1


async def test_a_filter_that_selects_nothing_is_warned_about(family: Household):
    family.add_mirror("none", 'filter = { city = "Atlantis" }')
    assert (await found(family))["mirrors"][1]["warnings"] == ["it selects nothing"]


async def test_an_original_that_is_not_to_be_had_is_a_warning(family: Household):
    family.sandbox.faults.disk_lost = True
    told = await found(family)
    assert told["exit_code"] == 0
    assert "does not give the original" in told["mirrors"][0]["warnings"][0]


# -- the destination -------------------------------------------------------------------------------


async def test_what_is_to_come_is_what_is_not_there_yet(family: Household):
    (place,) = (await found(family))["mirrors"][0]["destinations"]
    assert (place["to_come"], place["to_come_bytes"]) == (3, 600)
    assert place["marker"] is place["last_success_at"] is None
    await family.sync()
    family.library.upload("new.jpg", b"x" * 77)
    (place,) = (await found(family))["mirrors"][0]["destinations"]
    assert (place["to_come"], place["to_come_bytes"]) == (1, 77)
    assert place["marker"] == {"mirror": "family/all", "user_id": family.sandbox.owner_id}
    assert place["last_success_at"]
    assert place["mount"]
    assert place["free_bytes"] > 0


async def test_a_place_around_another_mirror_is_refused_before_a_run(family: Household):
    await family.sync()
    inside = family.root / "inside"
    moved = family.root.rename(family.home / "moved")
    inside.parent.mkdir()
    moved.rename(inside)
    shutil.rmtree(family.state)
    told = await found(family)
    assert told["exit_code"] == 4
    (place,) = told["mirrors"][0]["destinations"]
    assert codes(place["problems"]) == ["not-ours"]
    assert not (family.root / ".mirror").exists()


async def test_what_will_not_fit_is_exit_code_4(family: Household):
    family.file.write_text(family.file.read_text().replace("min_free = 0", 'min_free = "9000TiB"'))
    told = await found(family)
    assert told["exit_code"] == 4
    (place,) = told["mirrors"][0]["destinations"]
    assert codes(place["problems"]) == ["no-space"]


async def test_what_fits_alone_and_not_together_is_exit_code_4(
    family: Household, monkeypatch: pytest.MonkeyPatch
):
    family.add_mirror("second")
    monkeypatch.setattr("mirror.premises._free_bytes", lambda _: 1000)
    told = await found(family)
    assert told["exit_code"] == 4
    assert codes(told["problems"]) == ["no-space"]
    assert "for 2 destinations" in told["problems"][0]["why"]


async def test_another_users_destination_is_exit_code_4(family: Household):
    await family.sync()
    marker = family.root / ".mirror/mirror.json"
    marker.write_text(marker.read_text().replace(family.sandbox.owner_id, "somebody-else"))
    told = await found(family)
    (place,) = told["mirrors"][0]["destinations"]
    assert codes(place["problems"]) == ["other-account"]
    assert told["exit_code"] == 4


async def test_a_disk_that_is_not_mounted_is_told_beside_the_rest(family: Household):
    text = family.file.read_text()
    family.file.write_text(text.replace("min_free = 0", 'min_free = 0\nrequire_mount = "/no"'))
    told = await found(family)
    assert told["exit_code"] == 4
    assert told["mirrors"][0]["assets"] == 3
    (place,) = told["mirrors"][0]["destinations"]
    assert codes(place["problems"]) == ["not-mounted"]


# -- the command -----------------------------------------------------------------------------------


async def test_nothing_is_written_and_only_reading_requests_are_sent(family: Household):
    before = whole(family.home)
    ended = await mirror(family.home, "profile", "check", "family", "--online")
    assert ended.code == 0, ended.said
    assert "own assets: 3, all of them in a mirror" in ended.out
    assert "to come: 3 (about 600 bytes)" in ended.out
    assert whole(family.home) == before
    sent = {(request.method, request.path) for request in family.sandbox.requests}
    assert {method for method, _ in sent} <= {"GET", "HEAD", "POST"}
    assert {path for method, path in sent if method == "POST"} == {"/api/search/metadata"}


async def test_the_command_tells_json_with_the_exit_code(family: Household):
    family.use_key("revoked-0123456789")
    ended = await mirror(family.home, "profile", "check", "family", "--online", "--json")
    assert ended.code == json.loads(ended.out)["exit_code"] == 3
    assert "revoked" not in ended.said
    alone = await mirror(family.home, "profile", "check", "family", "--json")
    assert alone.code == 2
    assert "--online" in alone.err


async def test_a_person_gets_tables(family: Household):
    await family.sync()
    family.sandbox.key("minimum").permissions.append("asset.delete")
    args = ("profile", "check", "family", "--online")
    shown = await asyncio.to_thread(on_a_terminal, family.home, *args, columns=120)
    assert shown.code == 0, shown.out
    for words in ("key of", "own assets", "in no mirror", "last success", "just now", "warning:"):
        assert words in shown.out
