import locale
import posixpath
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.core.layout import (
    Layout,
    LayoutError,
    candidates,
    compile_layout,
    fold,
    safe_component,
)
from mirror.core.model import Asset, AssetType, Exif, NameRules, Visibility
from tests.strategies import assets, hostile_names, layout_texts, moments, name_rules

DEFAULT = "{taken:%Y/%m/%d}/{filename}"

ASSET = Asset(
    id="9e359a4d-a6fa-43ba-8bb5-ade26513b994",
    owner_id="d25723b9-85a6-489b-860b-e82bddf6d317",
    type=AssetType.IMAGE,
    visibility=Visibility.TIMELINE,
    original_file_name="IMG_1.HEIC",
    original_path="/data/extlib/Trips/2019 Ísland/IMG_1.HEIC",
    checksum=bytes.fromhex("0a1b2c3d" + "00" * 16),
    taken_at=datetime(2024, 5, 1, 7, 3, 9, tzinfo=UTC),
    taken_local=datetime(2024, 5, 1, 9, 3, 9, 120_000),  # noqa: DTZ001  a wall clock
    uploaded_at=datetime(2024, 12, 30, 23, 59, tzinfo=UTC),
    updated_at=datetime(2025, 1, 1, tzinfo=UTC),
    exif=Exif(make="Apple ", model="iPhone/13\0", city="Reykjavík", country=" "),
)


def portable(text: str) -> Layout:
    return compile_layout(text, NameRules.PORTABLE)


def named(name: str) -> Asset:
    return replace(ASSET, original_file_name=name)


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        (DEFAULT, "2024/05/01/IMG_1.HEIC"),
        ("{taken}/{filename}", "2024-05-01/IMG_1.HEIC"),
        ("{taken:%H:%M}/{filename}", "09_03/IMG_1.HEIC"),
        ("{uploaded:%Y}/{filename}", "2024/IMG_1.HEIC"),
        ("{taken:%Y/%B}/{stem}.{ext}", "2024/May/IMG_1.HEIC"),
        ("{stem}_{id8}.{ext}", "IMG_1_6513b994.HEIC"),
        ("{id}.{ext}", "9e359a4d-a6fa-43ba-8bb5-ade26513b994.HEIC"),
        ("{checksum8}-{filename}", "0a1b2c3d-IMG_1.HEIC"),
        ("{type}/{visibility}/{filename}", "image/timeline/IMG_1.HEIC"),
        ("{owner}/{filename}", "d25723b9-85a6-489b-860b-e82bddf6d317/IMG_1.HEIC"),
        ("{make} {model}/{filename}", "Apple iPhone_13/IMG_1.HEIC"),
        ("{country}/{city}/{filename}", "Unknown/Reykjavík/IMG_1.HEIC"),
        ("{country|Nowhere}/{filename}", "Nowhere/IMG_1.HEIC"),
        ("{country|}{city}/{filename}", "Reykjavík/IMG_1.HEIC"),
        ("{country|}/{filename}", "unnamed/IMG_1.HEIC"),
        ("{original_folder}/{filename}", "data/extlib/Trips/2019 Ísland/IMG_1.HEIC"),
        ("{{{stem}}}/{filename}", "{IMG_1}/IMG_1.HEIC"),
        ("{filename}", "IMG_1.HEIC"),
    ],
)
def test_a_layout_gives_a_path(layout: str, path: str) -> None:
    assert portable(layout).path(ASSET) == path


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        ("{taken}", "2024-05-01.HEIC"),
        ("{stem}", "IMG_1.HEIC"),
        ("{stem}{ext}", "IMG_1HEIC.HEIC"),
        ("{filename}-{id8}", "IMG_1.HEIC-6513b994.HEIC"),
        ("{filename}/{taken:%Y/%d}", "IMG_1.HEIC/2024/01.HEIC"),
        ("{original_folder}", "data/extlib/Trips/2019 Ísland.HEIC"),
    ],
)
def test_a_file_keeps_its_type_whatever_the_layout_says(layout: str, path: str) -> None:
    assert portable(layout).path(ASSET) == path


def test_a_name_without_extension_takes_it_from_the_servers_path() -> None:
    assert portable("{id8}.{ext}").path(named("scan")) == "6513b994.HEIC"


def test_without_any_extension_no_dot_is_left() -> None:
    asset = replace(named("scan"), original_path="/data/scan")
    assert portable("{stem}.{ext}").path(asset) == "scan"
    assert portable("{id8}").path(asset) == "6513b994"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../../etc/passwd", "2024/05/01/.._.._etc_passwd"),
        ("..", "2024/05/01/__"),
        ("a/b.jpg", "2024/05/01/a_b.jpg"),
        ("", "2024/05/01/unnamed"),
        ("CON.jpg", "2024/05/01/_CON.jpg"),
        (".jpg", "2024/05/01/.jpg"),
    ],
)
def test_a_hostile_name_stays_one_component(name: str, path: str) -> None:
    assert portable(DEFAULT).path(named(name)) == path


def test_folders_of_the_server_are_each_made_safe() -> None:
    asset = replace(ASSET, original_path="/data//../CON/ a:b/x.jpg")
    path = portable("{original_folder}/{filename}").path(asset)
    assert path == "data/__/_CON/_a_b/IMG_1.HEIC"


def test_a_server_path_without_folder_is_a_missing_value() -> None:
    asset = replace(ASSET, original_path="x.jpg")
    assert portable("{original_folder}/{filename}").path(asset) == "Unknown/IMG_1.HEIC"
    assert portable("{original_folder|Top}/{filename}").path(asset) == "Top/IMG_1.HEIC"


def test_no_name_at_the_root_is_the_state_folder() -> None:
    assert portable("{filename}").path(named(".Mirror")) == "_mirror"
    asset = replace(ASSET, exif=Exif(city=".mirror"))
    assert portable("{city}/{filename}").path(asset) == "_mirror/IMG_1.HEIC"
    assert portable(".{city}/{filename}").path(replace(ASSET, exif=Exif(city="mirror"))) == (
        "_mirror/IMG_1.HEIC"
    )


def test_posix_rules_keep_what_posix_allows() -> None:
    layout = compile_layout("{taken:%H:%M}/{filename}", NameRules.POSIX)
    assert layout.path(named('a:b\\"c"?')) == '09:03/a:b\\"c"?'


def test_the_owners_name_may_be_given() -> None:
    layout = portable("{owner}/{filename}")
    assert layout.path(ASSET, owner='Carol O\'Neil "CC"/x') == "Carol O'Neil _CC__x/IMG_1.HEIC"


def test_a_date_the_server_cannot_tell_falls_back_to_the_upload_in_utc() -> None:
    uploaded = datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=9)))
    asset = replace(ASSET, taken_local=None, uploaded_at=uploaded)
    assert portable(DEFAULT).path(asset) == "2023/12/31/IMG_1.HEIC"


def test_years_have_four_digits() -> None:
    asset = replace(ASSET, taken_local=datetime(101, 1, 1))  # noqa: DTZ001  a wall clock
    assert portable("{taken:%Y %G}/{filename}").path(asset) == "0101 0100/IMG_1.HEIC"


@pytest.mark.parametrize(
    ("directives", "text"),
    [
        ("%Y %y %m %d", "2024 24 05 01"),
        ("%B %b %A %a", "May May Wednesday Wed"),
        ("%j %u %G %V %U %W", "122 3 2024 18 17 18"),
        ("%H %I %p %M %S %f", "09 09 AM 03 09 120000"),
        ("100%%", "100%"),
    ],
)
def test_dates_take_strftime_directives(directives: str, text: str) -> None:
    assert portable(f"{{taken:{directives}}}/{{filename}}").path(ASSET) == f"{text}/IMG_1.HEIC"


@given(moments())
@example(datetime(1, 1, 1))  # noqa: DTZ001  a wall clock
@example(datetime(9999, 12, 31, 12))  # noqa: DTZ001  a wall clock
def test_directives_mean_what_the_c_library_means(moment: datetime) -> None:
    layout = portable("{taken:%m %d %j %u %V %U %W %y %H %I %M %S %f}/{filename}")
    folder = layout.path(replace(ASSET, taken_local=moment)).partition("/")[0]
    assert folder == moment.strftime("%m %d %j %u %V %U %W %y %H %I %M %S %f")


def test_month_names_are_english_in_any_locale() -> None:
    other = next((n for n in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8") if settable(n)), "C")
    before = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, other)
        path = portable("{taken:%B %a %p}/{filename}").path(ASSET)
    finally:
        locale.setlocale(locale.LC_TIME, before)
    assert path == "May Wed AM/IMG_1.HEIC"


def settable(name: str) -> bool:
    before = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_TIME, before)
    return True


@pytest.mark.parametrize(
    ("still", "video", "path"),
    [
        ("IMG_1.HEIC", "IMG_1.MOV", "2024/05/01/IMG_1.MOV"),
        ("IMG_1.HEIC", "other.mp4", "2024/05/01/IMG_1.mp4"),
        ("IMG_1.HEIC", "IMG_1", "2024/05/01/IMG_1.MOV"),
        ("IMG_1.HEIC", "IMG_1.heic", "2024/05/01/IMG_1.MOV"),
        ("IMG_1.MOV", "IMG_1.mov", "2024/05/01/IMG_1.MP4"),
        ("IMG_1", "IMG_1.MOV", "2024/05/01/IMG_1.MOV"),
        (".jpg", "x.mirror", "2024/05/01/_mirror"),
        ("IMG_1.HEIC", "x.a/b", "2024/05/01/IMG_1.MOV"),
        ("a" * 250 + ".jpg", "x.jpegvideo", "2024/05/01/" + "a" * 245 + ".jpegvideo"),
    ],
)
def test_a_live_video_lies_beside_its_still(still: str, video: str, path: str) -> None:
    moving = replace(
        named(video), original_path="/x", taken_local=None, visibility=Visibility.HIDDEN
    )
    assert portable(DEFAULT).video_path(named(still), moving) == path


def test_a_layout_says_which_fields_it_reads() -> None:
    layout = portable("{taken:%Y/%m}/{city}/{filename}")
    assert layout.fields == {"taken", "city", "filename"}
    assert layout.needs_exif
    assert not portable("{original_folder}/{filename}").needs_exif


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("", "empty folder or file name"),
        ("a//{filename}", "empty folder or file name"),
        ("{filename}/", "empty folder or file name"),
        ("{taken:%Y//%m}/{filename}", "empty folder or file name"),
        ("/srv/{filename}", "absolute; it is relative"),
        ("~/{filename}", "absolute; it is relative"),
        ("C:\\{filename}", "absolute; it is relative"),
        ("../{filename}", "'..' is no safe name; write '__'"),
        ("{id}/./{filename}", "'.' is no safe name"),
        (".MIRROR/{filename}", "'.MIRROR' is no safe name; write '_mirror'"),
        ("a:b/{filename}", "'a:b' is no safe name; write 'a_b'"),
        ("{album}/{filename}", "albums become views"),
        ("{filname}", "did you mean {filename}?"),
        ("{zzz}", "there are checksum8, city"),
        ("{}", "unknown field {}"),
        ("{filename", "single '{'; write '{{'"),
        ("{filename}}", "single '}'; write '}}'"),
        ("{filename:%Y}", "only {taken} and {uploaded} take a format"),
        ("{taken:}", "empty; write {taken:%Y-%m-%d}"),
        ("{taken:%Q}", "unknown %Q in {taken:%Q}; there are %Y"),
        ("{taken:%-d}", "unknown %-"),
        ("{taken:%Y%}", "unknown % in"),
        ("{taken|never}", "{taken} is never missing"),
        ("{id|x}", "{id} is never missing"),
        ("{city|a/b}", "cannot hold a '/'"),
    ],
)
def test_a_layout_that_cannot_be_used_is_refused_with_a_hint(layout: str, message: str) -> None:
    with pytest.raises(LayoutError) as refused:
        portable(layout)
    assert message in str(refused.value)


def test_a_literal_folder_may_be_typed_in_either_normal_form() -> None:
    assert portable("cafe\u0301/{filename}").path(ASSET) == "café/IMG_1.HEIC"


def test_a_path_too_deep_loses_the_folders_nearest_the_root() -> None:
    deep = replace(ASSET, original_path="/" + "/".join(f"{n:03}" for n in range(900)) + "/x.jpg")
    path = portable("{taken:%Y}/{original_folder}/{filename}").path(deep)
    assert path.endswith("/898/899/IMG_1.HEIC")
    assert 790 < len(path.encode()) <= 800


def contained(path: str) -> bool:
    """Whether no file system leads it out of the root or into the state folder."""
    root = "/root/mirror"
    parts = path.split("/")
    return (
        posixpath.normpath(posixpath.join(root, path)) == f"{root}/{path}"
        and "\0" not in path
        and not {fold(part) for part in parts} & {"", ".", "..", ".mirror"}
        and all(len(part.encode()) <= 255 for part in parts)
    )


def compiled(text: str, names: NameRules) -> Layout:
    try:
        return compile_layout(text, names)
    except LayoutError:
        return compile_layout("{city}/{original_folder}/{filename}", names)


LAYOUTS = st.builds(compiled, layout_texts(), name_rules())


@given(LAYOUTS, assets(), hostile_names())
def test_no_name_leads_outside_the_root(layout: Layout, asset: Asset, owner: str) -> None:
    base = layout.path(asset, owner=owner)
    for path in candidates(base, asset.id):
        assert contained(path)
        assert all(safe_component(part, layout.names) == part for part in path.split("/"))
    assert len(base.encode()) <= 800


def test_a_video_whose_safe_extension_is_its_stills_gets_another() -> None:
    still = replace(ASSET, original_file_name='a.b"c')
    video = replace(ASSET, original_file_name="a.b|c")
    layout = compile_layout("{filename}", NameRules.PORTABLE)
    assert layout.path(still) == "a.b_c"
    assert layout.video_path(still, video) == "a.MOV"


@given(LAYOUTS, assets(), assets())
def test_no_live_video_leads_outside_the_root(layout: Layout, still: Asset, video: Asset) -> None:
    path = layout.video_path(still, video)
    assert contained(path)
    assert path.rpartition("/")[0] == layout.path(still).rpartition("/")[0]
    assert fold(path) != fold(layout.path(still))


@given(st.text(max_size=40), name_rules())
def test_any_text_is_a_layout_or_refused(text: str, names: NameRules) -> None:
    try:
        layout = compile_layout(text, names)
    except LayoutError:
        return
    assert contained(layout.path(ASSET))


@given(assets())
def test_names_of_the_default_layout_lie_in_the_day(asset: Asset) -> None:
    day = asset.taken_local or asset.uploaded_at
    parts = portable(DEFAULT).path(asset).split("/")
    assert [int(part) for part in parts[:-1]] == [day.year, day.month, day.day]
    assert parts[-1] == safe_component(asset.original_file_name, NameRules.PORTABLE)
