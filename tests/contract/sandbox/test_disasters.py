"""A server that goes back in time, is installed anew, or has a wrong clock."""

from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest

from mirror.sandbox import sample_library
from mirror.sandbox.disasters import back_up, go_back, reinstall
from mirror.sandbox.faults import Happens
from mirror.sandbox.library import utc_now
from tests.contract.sandbox.client import connected, original


async def test_what_happens_half_way_is_in_every_answer_from_then_on():
    async with connected() as client:
        faults, key = client.sandbox.faults, client.sandbox.key("minimum")
        asset = next(client.library.own())
        lose = Happens(lambda: key.permissions.remove("asset.download"))
        faults.add(lose, path="/api/assets/*", skip=2, times=1)
        faults.add(Happens(faults.begin_maintenance), skip=4, times=1)
        statuses = [(await client.body(original(asset.id)))[0] for _ in range(5)]
        assert statuses == [200, 200, 403, 403, 404]
        assert await client.json("GET", "/api/server/config") == (200, {"maintenanceMode": True})


@pytest.mark.parametrize(("version", "status"), [("3.1.0", 404), ("2.7.5", 500)])
async def test_a_database_goes_back_in_time_and_the_files_do_not(version, status):
    async with connected(sample_library(version=version)) as client:
        library = client.library
        before = await client.page(size=1000)
        deleted, renamed, *_ = library.own()
        backup = back_up(library)
        library.delete(deleted.id)
        library.rename(renamed.id, "other.jpg")
        newer = library.upload("newer.jpg", b"newer")
        assert newer.id in await client.ids()

        for _ in range(2):  # a backup can be used more than once
            go_back(library, backup)
            assert await client.page(size=1000) == before
            library.upload("later.jpg", b"later")
        assert (await client.body(original(deleted.id)))[0] == status
        assert (await client.body(original(renamed.id)))[0] == 200
        assert (await client.json("GET", f"/api/assets/{newer.id}"))[0] == 400


async def test_a_server_that_is_installed_anew_has_the_same_photos_under_other_ids():
    async with connected() as client:
        library = client.library
        old = {asset.id: asset for asset in library.own() if not asset.trashed}
        reinstall(library)
        new = list(library.own())
        assert old.keys().isdisjoint(asset.id for asset in new)
        assert sorted(asset.checksum for asset in new) == sorted(
            asset.checksum for asset in old.values()
        )
        videos = [asset.live_photo_video_id for asset in new if asset.live_photo_video_id]
        assert videos
        assert {library.assets[video].visibility for video in videos} == {"hidden"}
        assert (library.albums, library.people, library.tags) == ({}, {}, {})
        assert (await client.body(original(new[0].id)))[0] == 200


async def test_a_server_that_is_installed_anew_may_have_other_users():
    async with connected() as client:
        library, before = client.library, client.sandbox.owner_id
        rows = (await client.page(size=1000))["items"]
        assert {row["ownerId"] for row in rows} > {before}
        reinstall(library, new_users=True)
        rows = (await client.page(size=1000))["items"]
        assert before not in {row["ownerId"] for row in rows}
        assert client.sandbox.owner_id in {row["ownerId"] for row in rows}
        (partner,) = library.partners_of(client.sandbox.owner_id)
        assert partner in {row["ownerId"] for row in rows}
        _, me = await client.json("GET", "/api/users/me", key="all")
        assert me["id"] == client.sandbox.owner_id


@pytest.mark.parametrize("days", [-365, 365])
async def test_a_wrong_clock_is_in_the_date_of_answers_and_in_every_stamp(days):
    async with connected() as client:
        client.library.jump(timedelta(days=days))
        asset = client.library.upload("a.jpg", b"a")
        async with client.ask("GET", "/api/server/ping") as response:
            date = parsedate_to_datetime(response.headers["Date"])
        wrong = utc_now() + timedelta(days=days)
        assert abs(date - wrong) < timedelta(minutes=5)
        assert abs(asset.updated_at - wrong) < timedelta(minutes=5)


async def test_a_partner_can_be_shown_and_hidden():
    async with connected() as client:
        library, me = client.library, client.sandbox.owner_id
        (partner,) = library.partners_of(me)
        theirs = {asset.id for asset in library.own(partner)}
        library.show_partner(partner, me, on=False)
        assert theirs.isdisjoint(await client.ids())
        assert (await client.json("GET", f"/api/assets/{next(iter(theirs))}"))[0] == 200
        library.show_partner(partner, me, on=True)
        assert theirs <= set(await client.ids())
