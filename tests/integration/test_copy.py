"""`mirror copy`: a folder that immich-ppdl filled, selections that share one, and what changed."""

import argparse
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.copy_options import add_copy_options
from mirror.copying import copy_request
from mirror.core.plan import Action, Kind, Reason
from mirror.errors import ExitCode
from mirror.options import Options
from mirror.progress import Silent
from mirror.run import MirrorRun
from mirror.sandbox import Library, Sandbox, sample_library
from mirror.sandbox.content import Fixed
from mirror.sandbox.records import StoredAsset
from mirror.session import Session
from tests.integration.command import mirror, write_profile
from tests.integration.mirroring import content, counts, describe, files, make_external, wanted

NOON = datetime(2020, 6, 15, 12, tzinfo=UTC)
DAY = "2020/06/15"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(sample_library(0)) as serving:
        yield serving


@pytest.fixture
async def sample() -> AsyncIterator[Sandbox]:
    async with Sandbox(sample_library()) as serving:
        yield serving


def environ(sandbox: Sandbox, root: Path) -> dict[str, str]:
    return {
        "IMMICH_API_URL": f"{sandbox.url}/api",
        "IMMICH_API_KEY": sandbox.api_keys["minimum"],
        "SAVE_TO": str(root),
    }


async def copy(sandbox: Sandbox, root: Path, *argv: str) -> MirrorRun:
    """One `mirror copy` in this process."""
    parser = argparse.ArgumentParser()
    add_copy_options(parser)
    account = [f"--{name.lower()}={text}" for name, text in environ(sandbox, root).items()]
    args = parser.parse_args([*account, *argv])
    request = copy_request(args)
    options = Options(dry=request.dry, rebind=args.rebind, removes=False)
    session = Session(options=options, known=None, progress=Silent())
    await session.run(request.profile, request.profile.mirrors)
    (run,) = session.runs
    return run


async def copied(sandbox: Sandbox, root: Path, *argv: str) -> MirrorRun:
    """One that must end well."""
    run = await copy(sandbox, root, *argv)
    assert run.report.exit_code is ExitCode.OK, describe(run)
    return run


def data_of(asset: StoredAsset) -> bytes:
    return b"".join(asset.content.read(0, asset.content.size_bytes))


def upload(library: Library, name: str, seed: object = None, **more: object) -> StoredAsset:
    return library.upload(name, content(seed or name), taken_at=NOON, **more)  # type: ignore[arg-type]  # passed on as they are


def listed_by_script(library: Library) -> Iterator[StoredAsset]:
    """The timeline with partners' photos, newest first; live videos are not in it."""
    everybody = {library.owner_id} | library.partners_of(library.owner_id, in_timeline=True)
    shown = (
        asset
        for asset in library.assets.values()
        if asset.owner_id in everybody and asset.visibility == "timeline" and not asset.trashed
    )
    yield from sorted(shown, key=lambda asset: asset.file_created_at, reverse=True)


def fill_as_script(root: Path, library: Library) -> list[StoredAsset]:
    """What immich-ppdl leaves behind; the assets whose file it wrote.

    Of several with one name on one day the first gets it, and the name goes into the path as it is.
    """
    written = []
    for asset in listed_by_script(library):
        path = root / f"{asset.local_date_time:%Y/%m/%d}" / asset.original_file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data_of(asset))
            written.append(asset)
    return written


def asked_originals(sandbox: Sandbox) -> set[str | None]:
    """Whose bytes were downloaded."""
    asked = (request for request in sandbox.requests if request.method == "GET")
    return {request.original_of for request in asked} - {None}


def reasons(actions: tuple[Action, ...]) -> dict[str, tuple[Kind, str]]:
    return {action.asset_id: (action.kind, action.reason) for action in actions}


# -- taking a folder over --------------------------------------------------------------------------


async def test_a_folder_that_the_script_filled_is_adopted_without_downloading_it_again(
    sample: Sandbox, tmp_path: Path
):
    written = fill_as_script(tmp_path, sample.library)
    before = files(tmp_path)

    run = await copied(sample, tmp_path)

    theirs = {asset.id for asset in written}
    assert asked_originals(sample).isdisjoint(theirs)
    assert asked_originals(sample) == {asset.id for asset in wanted(sample.library)} - theirs
    after = files(tmp_path)
    assert before.items() <= after.items()
    assert set(after.values()) >= {asset.content.sha1 for asset in wanted(sample.library)}
    assert run.report.counts
    again = await copied(sample, tmp_path)
    assert again.plan.actions == ()


async def test_what_the_script_left_out_comes_now(sample: Sandbox, tmp_path: Path):
    """The losers of a collision, and the videos of live photos."""
    written = {asset.id for asset in fill_as_script(tmp_path, sample.library)}

    await copied(sample, tmp_path)

    came = [sample.library.assets[str(asset_id)] for asset_id in asked_originals(sample)]
    assert sorted(asset.original_file_name for asset in came) == [
        "IMG_0001.JPG", "IMG_0001.JPG", "IMG_5000.MOV", "IMG_5001.MOV", "IMG_5002.MOV",
    ]  # fmt: skip
    assert not written & {asset.id for asset in came}
    beside = [path for path in files(tmp_path) if path.startswith("2021/07/14/IMG_0001")]
    assert len(beside) == 3


async def test_with_the_script_s_names_every_file_is_adopted_where_it_lies(
    sample: Sandbox, tmp_path: Path
):
    slash = sample.library.named("trip/../dinner: what?.jpg")
    slash.original_file_name = "dinner: what?.jpg"
    written = fill_as_script(tmp_path, sample.library)

    run = await copied(sample, tmp_path, "--names", "posix", "--owners", "anyone")

    taken = reasons(run.plan.actions)
    assert {taken[asset.id] for asset in written} == {(Kind.ADOPT, Reason.FOUND)}


async def test_a_name_that_is_not_portable_is_copied_on_the_disk_and_not_downloaded(
    sandbox: Sandbox, tmp_path: Path
):
    asset = upload(sandbox.library, "12:30?.jpg")
    fill_as_script(tmp_path, sandbox.library)

    await copied(sandbox, tmp_path)

    assert asked_originals(sandbox) == set()
    assert files(tmp_path) == {
        f"{DAY}/12:30?.jpg": asset.content.sha1,
        f"{DAY}/12_30_.jpg": asset.content.sha1,
    }


async def test_an_external_file_is_adopted_by_its_size_as_unproved(
    sandbox: Sandbox, tmp_path: Path
):
    asset = upload(sandbox.library, "scan.jpg")
    make_external(asset)
    fill_as_script(tmp_path, sandbox.library)

    run = await copied(sandbox, tmp_path)

    assert reasons(run.plan.actions) == {asset.id: (Kind.ADOPT, Reason.UNPROVED)}
    assert asked_originals(sandbox) == set()


async def test_a_photo_edited_in_immich_is_known_by_its_original(sandbox: Sandbox, tmp_path: Path):
    asset = upload(sandbox.library, "crooked.jpg")
    asset.edited = Fixed(b"straight")
    fill_as_script(tmp_path, sandbox.library)

    run = await copied(sandbox, tmp_path)

    assert counts(run) == {"adopted": 1}
    assert asked_originals(sandbox) == set()


async def test_a_photo_edited_in_the_folder_stays_and_its_original_comes_beside_it(
    sandbox: Sandbox, tmp_path: Path
):
    asset = upload(sandbox.library, "IMG_1.jpg")
    fill_as_script(tmp_path, sandbox.library)
    (tmp_path / DAY / "IMG_1.jpg").write_bytes(b"edited")

    await copied(sandbox, tmp_path)

    assert (tmp_path / DAY / "IMG_1.jpg").read_bytes() == b"edited"
    beside = tmp_path / DAY / f"IMG_1-{asset.id.replace('-', '')[-8:]}.jpg"
    assert beside.read_bytes() == data_of(asset)


async def test_a_part_file_of_the_script_is_nobody_s(sandbox: Sandbox, tmp_path: Path):
    asset = upload(sandbox.library, "IMG_1.jpg")
    (tmp_path / DAY).mkdir(parents=True)
    part = tmp_path / DAY / "IMG_1.jpg.part"
    part.write_bytes(data_of(asset)[:50])

    await copied(sandbox, tmp_path)

    assert part.read_bytes() == data_of(asset)[:50]
    assert (tmp_path / DAY / "IMG_1.jpg").read_bytes() == data_of(asset)


async def test_the_script_s_copies_of_a_partner_s_photos_stay_and_are_adopted_when_asked_for(
    sample: Sandbox, tmp_path: Path
):
    written = fill_as_script(tmp_path, sample.library)
    partner = {asset.id for asset in written if asset.owner_id != sample.owner_id}
    before = files(tmp_path)

    mine = await copied(sample, tmp_path)
    everybody = await copied(sample, tmp_path, "--owners", "anyone")

    assert partner
    assert not partner & reasons(mine.plan.actions).keys()
    assert reasons(everybody.plan.actions) == dict.fromkeys(partner, (Kind.ADOPT, Reason.FOUND))
    assert before.items() <= files(tmp_path).items()


# -- selections ------------------------------------------------------------------------------------


async def test_several_selections_share_a_folder_and_none_lets_go_of_another_s(
    sample: Sandbox, tmp_path: Path
):
    await copied(sample, tmp_path)
    before = files(tmp_path)

    archive = await copied(sample, tmp_path, "--filters", "visibility=archive")
    favourites = await copied(sample, tmp_path, "--filters", '{"isFavorite": true}')
    again = await copied(sample, tmp_path)

    assert counts(archive) == {"downloaded": 4}
    assert set(counts(favourites)) == {"unchanged"}
    assert again.plan.actions == ()
    assert before.items() <= files(tmp_path).items()
    assert len(files(tmp_path)) == len(before) + 4


async def test_after_is_when_it_was_uploaded_and_not_when_it_was_taken(
    sandbox: Sandbox, tmp_path: Path
):
    old, new = (upload(sandbox.library, name) for name in ("old.jpg", "new.jpg"))
    old.created_at = datetime(2023, 1, 1, tzinfo=UTC)
    new.created_at = datetime(2024, 6, 1, tzinfo=UTC)

    await copied(sandbox, tmp_path, "--after", "2024-01-01")

    assert set(files(tmp_path)) == {f"{DAY}/new.jpg"}


async def test_last_days_counts_back_from_the_server_s_clock(sandbox: Sandbox, tmp_path: Path):
    old, new = (upload(sandbox.library, name) for name in ("old.jpg", "new.jpg"))
    now = sandbox.library.clock()
    old.created_at, new.created_at = now - timedelta(days=4), now - timedelta(days=2)

    await copied(sandbox, tmp_path, "--last_days", "3")

    assert set(files(tmp_path)) == {f"{DAY}/new.jpg"}


async def test_all_the_persons_must_be_on_the_photo(sandbox: Sandbox, tmp_path: Path):
    one, both = (upload(sandbox.library, name) for name in ("one.jpg", "both.jpg"))
    ann = sandbox.library.make_person("Ann", one.id, both.id)
    bob = sandbox.library.make_person("Bob", both.id)

    await copied(sandbox, tmp_path, "--person_ids", f"{ann.id},{bob.id}")

    assert set(files(tmp_path)) == {f"{DAY}/both.jpg"}


async def test_a_field_that_this_server_ignores_is_refused(sandbox: Sandbox, tmp_path: Path):
    upload(sandbox.library, "a.jpg")

    run = await copy(sandbox, tmp_path, "--filters", "deviceId=phone")

    assert run.report.exit_code is ExitCode.USAGE
    assert "deviceId" in str(run.report.error)
    assert files(tmp_path) == {}


async def test_files_that_were_deleted_come_again_however_many(sandbox: Sandbox, tmp_path: Path):
    for number in range(30):
        upload(sandbox.library, f"{number}.jpg")
    await copied(sandbox, tmp_path)
    before = files(tmp_path)
    shutil.rmtree(tmp_path / "2020")

    await copied(sandbox, tmp_path)

    assert files(tmp_path) == before


async def test_what_is_gone_from_the_server_stays(sandbox: Sandbox, tmp_path: Path):
    gone, kept = (upload(sandbox.library, name) for name in ("gone.jpg", "kept.jpg"))
    await copied(sandbox, tmp_path)
    sandbox.library.delete(gone.id)

    run = await copied(sandbox, tmp_path)

    assert run.plan.actions == ()
    assert files(tmp_path) == {
        f"{DAY}/gone.jpg": gone.content.sha1,
        f"{DAY}/kept.jpg": kept.content.sha1,
    }


# -- whose folder ----------------------------------------------------------------------------------


async def test_the_folder_of_another_user_is_refused_until_it_is_rebound(
    sandbox: Sandbox, tmp_path: Path
):
    upload(sandbox.library, "a.jpg")
    await copied(sandbox, tmp_path)
    (other,) = sandbox.library.users.keys() - {sandbox.owner_id}
    sandbox.key("minimum").user_id = other

    refused = await copy(sandbox, tmp_path)
    taken = await copy(sandbox, tmp_path, "--rebind")

    assert refused.report.exit_code is ExitCode.DESTINATION
    assert taken.report.exit_code is ExitCode.OK


async def test_sync_refuses_a_folder_of_copy_and_copy_one_of_a_profile_until_rebound(
    sandbox: Sandbox, tmp_path: Path
):
    upload(sandbox.library, "a.jpg")
    write_profile(tmp_path, sandbox.url, sandbox.api_keys["minimum"])
    root = tmp_path / "photos"

    async def copy_code(*argv: str) -> int:
        return (await copy(sandbox, root, *argv)).report.exit_code

    async def sync_code(*argv: str) -> int:
        return (await mirror(tmp_path, "sync", "family", *argv)).code

    assert [await copy_code(), await sync_code(), await sync_code("--rebind")] == [0, 4, 0]
    assert [await copy_code(), await copy_code("--rebind"), await copy_code()] == [4, 0, 0]


# -- the command -----------------------------------------------------------------------------------


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


async def test_a_dry_run_prints_the_paths_one_a_line_and_writes_nothing(
    sandbox: Sandbox, tmp_path: Path
):
    upload(sandbox.library, "a.jpg")
    upload(sandbox.library, "b.jpg")
    root = tmp_path / "photos"

    ended = await mirror(tmp_path, "copy", "--dry", **environ(sandbox, root))

    assert ended.code == 0
    assert ended.out.splitlines() == [f"{root}/{DAY}/a.jpg", f"{root}/{DAY}/b.jpg"]
    assert everything(tmp_path) == set()
    assert asked_originals(sandbox) == set()


async def test_nothing_is_written_outside_the_folder(sandbox: Sandbox, tmp_path: Path):
    upload(sandbox.library, "/../../../../evil.jpg")
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)

    ended = await mirror(root, "copy", **environ(sandbox, root) | {"SAVE_TO": ""})

    assert ended.code == 0, ended.said
    outside = {path for path in everything(tmp_path) if root not in (path, *path.parents)}
    assert outside == {tmp_path / "a"}
    assert len(files(root)) == 1


async def test_a_photo_that_fails_ends_with_1_and_the_others_come(sandbox: Sandbox, tmp_path: Path):
    lost = upload(sandbox.library, "lost.jpg")
    upload(sandbox.library, "good.jpg")
    sandbox.faults.lost_files.add(lost.id)
    root = tmp_path / "photos"

    ended = await mirror(tmp_path, "copy", **environ(sandbox, root))

    assert ended.code == 1, ended.said
    assert [line["asset_id"] for line in ended.events("asset.failed")] == [lost.id]
    assert set(files(root)) == {f"{DAY}/good.jpg"}


async def test_the_key_is_never_said(sandbox: Sandbox, tmp_path: Path):
    upload(sandbox.library, "a.jpg")
    key = sandbox.api_keys["minimum"]
    told = {"IMMICH_API_URL": sandbox.url}

    good = await mirror(tmp_path, "copy", "-vv", "--immich_api_key", key, "--save_to", "p", **told)
    sandbox.key("minimum").revoked = True
    bad = await mirror(tmp_path, "copy", "-vv", "--immich_api_key", key, "--save_to", "p", **told)
    wrong = await mirror(tmp_path, "copy", "--immich_api_key", key, "--threads", "900", **told)

    assert (good.code, bad.code, wrong.code) == (0, 3, 2)
    assert key not in good.said + bad.said + wrong.said
    kept = {path for path in everything(tmp_path) if path.is_file()}
    assert not [path for path in kept if key.encode() in path.read_bytes()]


async def test_a_file_edited_after_it_was_copied_stays_too(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    asset = upload(sandbox.library, "IMG_1.jpg")
    await copied(sandbox, tmp_path)
    (tmp_path / DAY / "IMG_1.jpg").write_bytes(b"edited")

    await copied(sandbox, tmp_path)

    assert (tmp_path / DAY / "IMG_1.jpg").read_bytes() == b"edited"
    beside = tmp_path / DAY / f"IMG_1-{asset.id.replace('-', '')[-8:]}.jpg"
    assert beside.read_bytes() == data_of(asset)
    assert (await copied(sandbox, tmp_path)).plan.actions == ()
