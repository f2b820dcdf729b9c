"""`mirror report --html`: one page that says what is true, to anybody, without a network."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mirror.destinations.identity import Known
from mirror.last_run import LastRuns
from mirror.page import page
from mirror.page.words import Asked
from mirror.sandbox import sample_library
from mirror.sandbox.faults import Corrupted
from mirror.status import Memory, look
from tests.integration.command import mirror
from tests.integration.household import Household, household
from tests.integration.mirroring import empty, whole
from tests.planted import assert_unsaid

CHROMIUM = shutil.which("chromium")


class Seen(HTMLParser):
    """What a page shows, and every attribute in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: Counter[str] = Counter()
        self.scripts: list[str] = []
        self._silent = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._silent = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        self._silent = ""
        if tag in ("p", "h1", "h2", "h3", "li", "dd", "dt", "div", "span", "td"):
            self.text += "\n"

    def handle_data(self, data: str) -> None:
        if self._silent:
            self.scripts.append(data)
        else:
            self.text += data


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Household]:
    async with household(tmp_path) as home:
        yield home


def made(family: Household, **asked: timedelta) -> str:
    memory = Memory(Known(family.state), LastRuns(family.state))
    profile = family.profile
    found = list(look(profile, profile.mirrors, memory, counts_months=True))
    max_age = asked.get("max_age", timedelta(days=3))
    html = page(profile, found, Asked(datetime.now(UTC), max_age))
    assert_unsaid(html)
    return html


def seen(family: Household, **asked: timedelta) -> Seen:
    return Seen(made(family, **asked))


# -- the states ------------------------------------------------------------------------------------


async def test_all_is_well_after_a_run_that_brought_everything(family: Household):
    await family.sync()
    text = seen(family).text
    assert "Your photos are backed up." in text
    assert "3 photos and videos lie here as plain files, 600 bytes in all." in text
    assert "up to date" in text
    assert "just before this page was made" in text
    assert "June 2020" in made(family)


async def test_before_the_first_run_nothing_is_promised(family: Household):
    text = seen(family).text
    assert "Your photos are not backed up as they should be." in text
    assert "No backup has been made yet." in text
    assert "never" in text


async def test_an_old_success_is_not_up_to_date(family: Household):
    await family.sync()
    family.grow_older(hours=24 * 5)
    text = seen(family).text
    assert "not up to date" in text
    assert "The last complete backup is 5 days old." in text
    assert "Your photos are backed up." in seen(family, max_age=timedelta(days=6)).text


async def test_a_success_in_the_future_is_none_to_rely_on(family: Household):
    await family.sync()
    family.grow_older(hours=-5)
    assert "clock is wrong" in seen(family).text


async def test_a_revoked_key_is_said_in_plain_words_and_one_failure_hides_no_other(
    family: Household,
):
    family.add_mirror("second", "filter = { favorite = true }")
    await family.sync()
    family.use_key("a-key-that-was-revoked-0123456789")
    await family.sync("all")
    html = made(family)
    text = Seen(html).text
    assert "Your photos are backed up; 1 of 2 backups needs a look." in text
    assert "The photo server no longer accepts the backup's key. It needs a new one." in text
    assert "Some of your own photos and videos in the timeline, chosen by favourites." in text
    assert "a-key-that-was-revoked" not in html


async def test_what_is_held_waits_for_a_person_and_nothing_was_deleted(family: Household):
    await family.sync()
    family.library.delete(*[asset.id for asset in family.library.own()])
    assert await family.codes() == [5]
    text = seen(family).text
    assert "something needs a look" in text
    assert "Some changes wait for a person to look at them. Nothing was deleted." in text


async def test_a_disk_that_is_away_is_said_and_counts_nothing(family: Household):
    await family.sync()
    family.root.rename(family.home / "away")
    family.root.mkdir()
    shown = seen(family)
    assert "The disk with the copies is not connected" in shown.text
    assert "How many photos are in it is not known at the moment." in shown.text
    assert shown.tags["svg"] == 0


async def test_a_second_copy_that_is_away_leaves_a_backup_that_needs_a_look(family: Household):
    with family.file.open("a") as file:
        file.write(f'[[mirrors.all.destinations]]\npath = "{family.home}/usb"\nmin_free = 0\n')
    await family.sync()
    (family.home / "usb").rename(family.home / "away")
    (family.home / "usb").mkdir()
    text = seen(family).text
    assert "Your photos are backed up, but something needs a look." in text
    assert "3 photos and videos" in text


async def test_photos_that_arrive_damaged_are_named_with_why(family: Household):
    damaged = next(family.library.own())
    family.sandbox.faults.add(Corrupted(10), path=f"*/{damaged.id}/original")
    assert await family.codes() == [1]
    text = seen(family).text
    assert "1 photo or video could not be copied" in text
    assert f"{damaged.original_file_name}: it arrives damaged from the server" in text
    assert await family.codes() == [0]  # known by now
    text = seen(family).text
    assert "1 original is damaged on the photo server" in text
    assert "needs a look" in text


async def test_an_empty_library_is_well_and_says_so(tmp_path: Path):
    async with household(tmp_path, empty()) as family:
        assert await family.codes() == [0]
        shown = seen(family)
        assert "Your photos are backed up." not in shown.text
        assert "There are no photos to back up yet." in shown.text
        assert shown.tags["svg"] == 0


# -- the chart -------------------------------------------------------------------------------------


async def test_every_photo_is_in_the_month_in_which_it_was_taken(tmp_path: Path):
    async with household(tmp_path, sample_library(120)) as family:
        await family.sync()
        html = made(family)
        told = Counter(
            {
                (int(year), month): int(count)
                for month, year, count in re.findall(r"<title>(\w+) (\d+): (\d+)</title>", html)
            }
        )
        folders = Counter(
            path.relative_to(family.root).parts[:2]
            for path in family.root.rglob("*")
            if path.is_file() and ".mirror" not in path.parts
        )
        motion = family.root.rglob("*.MOV")
        assert sum(told.values()) == int(
            re.findall(r"<dt>Photos and videos</dt><dd><span class=\"figure\">(\d+)<", html)[0]
        )
        assert {int(year) for year, _ in folders} == {year for year, _ in told}
        assert sum(folders.values()) - sum(told.values()) <= len(list(motion))


async def test_without_a_date_in_the_layout_the_files_time_tells_the_month(family: Household):
    text = family.file.read_text().replace("[mirrors.all]", '[mirrors.all]\nlayout = "{filename}"')
    family.file.write_text(text)
    await family.sync()
    assert "<title>June 2020: 3</title>" in made(family)


# -- nothing from elsewhere ------------------------------------------------------------------------

_HOSTILE = "\"<img src=x onerror=alert(1)>'&amp;\x1b]0;\u202e"


async def test_what_strangers_chose_stays_text(family: Household):
    (first, *_) = family.library.own()
    first.original_file_name = f"{_HOSTILE}.jpg"
    family.sandbox.faults.add(Corrupted(10), path=f"*/{first.id}/original")
    assert await family.codes() == [1]
    html = made(family)
    shown = Seen(html)
    assert "img src=x onerror=alert(1)" in shown.text
    assert shown.tags["img"] == 0
    assert shown.tags["script"] == 1
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]


async def test_the_page_names_nothing_that_is_elsewhere(family: Household):
    await family.sync()
    html = made(family)
    shown = Seen(html)
    links = [value for _, name, value in shown.attributes if name in ("href", "src", "action")]
    assert set(links) <= {"data:,"} | {link for link in links if link.startswith("#")}
    (policy,) = [value for _, name, value in shown.attributes if "default-src" in value]
    assert "default-src 'none'" in policy
    style, script = shown.scripts
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"fetch|XMLHttp|import|src|http", script)
    assert "http" not in shown.text


def chromium(url: str, profile: Path, *args: str) -> str:
    """The page's tree once it was shown, in a browser that finds no host but this one."""
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--disable-default-apps", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--virtual-time-budget=2000", *args, "--dump-dom", url,
        ],
        capture_output=True, text=True, check=True, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(profile)},
    )  # fmt: skip
    return done.stdout


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Debian package chromium")


@contextmanager
def served(html: str) -> Iterator[tuple[str, list[str]]]:
    """A server of one page, and every path that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


@needs_chromium
async def test_a_browser_asks_for_nothing_but_the_page(family: Household, tmp_path: Path):
    await family.sync()
    html = made(family)
    with served(html) as (url, asked):
        chromium(url, tmp_path / "browser")
    assert asked == ["/"]
    # As a probe, so that this can fail: without its policy, and with an image of elsewhere.
    loose = html.replace("Content-Security-Policy", "x").replace("<h1", '<img src="probe"><h1')
    with served(loose) as (url, asked):
        chromium(url, tmp_path / "another")
    assert "/probe" in asked
    strict = html.replace("<h1", '<img src="probe"><h1')
    with served(strict) as (url, asked):
        chromium(url, tmp_path / "third")
    assert asked == ["/"]


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_scrolls_sideways(family: Household, tmp_path: Path, width: int):
    (first, *_) = family.library.own()
    first.original_file_name = f"{'long' * 50}.jpg"
    family.sandbox.faults.add(Corrupted(10), path=f"*/{first.id}/original")
    family.add_mirror("m" * 100)
    await family.sync()
    html = made(family).replace("Content-Security-Policy", "x").replace("<details", "<details open")
    frame = f'<iframe src="page.html" width="{width}" height="900" style="border:0"></iframe>'
    measure = (
        "<script>onload = () => { const root = frames[0].document.documentElement;"
        " document.title = `${root.clientWidth} ${root.scrollWidth}` }</script>"
    )
    (tmp_path / "page.html").write_text(html)
    (tmp_path / "frame.html").write_text(f"<title></title>{frame}{measure}")
    flags = ("--allow-file-access-from-files", "--hide-scrollbars", "--window-size=1400,1000")
    dom = chromium((tmp_path / "frame.html").as_uri(), tmp_path / "browser", *flags)
    assert re.findall(r"<title>(.*?)</title>", dom) == [f"{width} {width}"]


@needs_chromium
async def test_a_page_that_nobody_makes_any_more_says_so_itself(family: Household, tmp_path: Path):
    await family.sync()
    file = tmp_path / "page.html"
    html = made(family)
    (stamp,) = re.findall(r'data-made="([^"]+)"', html)
    for days, is_shown in ((2, False), (9, True)):
        earlier = datetime.fromisoformat(stamp) - timedelta(days=days)
        file.write_text(html.replace(stamp, earlier.isoformat()))
        dom = chromium(file.as_uri(), tmp_path / f"browser{days}")
        (old,) = re.findall(r'<p id="old".*?</p>', dom)
        assert ("hidden" not in old) is is_shown
        assert ("This page is <b>9</b> days old" in old) is is_shown


# -- the command -----------------------------------------------------------------------------------


async def test_the_command_asks_no_server_and_writes_one_file(family: Household, tmp_path: Path):
    await family.sync()
    before = whole(family.home)
    family.sandbox.requests.clear()
    file = tmp_path / "page.html"
    ended = await mirror(family.home, "report", "family", "--html", file)
    assert (ended.code, ended.out) == (0, f"{file}: Your photos are backed up.\n")
    assert file.read_text().startswith("<!doctype html>")
    assert file.stat().st_mode & 0o777 == 0o644
    assert family.sandbox.requests == []
    file.unlink()
    assert whole(family.home) == before
    shown = await mirror(family.home, "report", "family", "--html", "-")
    assert shown.out.startswith("<!doctype html>")


async def test_a_page_that_cannot_be_written_leaves_the_old_one(family: Household, tmp_path: Path):
    await family.sync()
    ended = await mirror(family.home, "report", "family", "--html", tmp_path / "no/page.html")
    assert ended.code == 2
    assert "the page cannot be written" in ended.err
    (tmp_path / "taken").mkdir()
    ended = await mirror(family.home, "report", "family", "--html", tmp_path / "taken")
    assert ended.code == 2
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]  # noqa: PTH208 (async)
