from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.layout import compile_layout
from mirror.core.model import Mirror, NameRules
from mirror.page.chart import chart, series
from mirror.page.elements import as_html, element
from mirror.page.words import counted, span
from mirror.status import months_of
from tests.unit.test_layout import ASSET

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("layout", "path", "month"),
    [
        ("{taken:%Y/%m/%d}/{filename}", "2021/07/14/x.jpg", (2021, 7)),
        ("Fotos/{taken:%Y-%m}/{filename}", "Fotos/2021-07/x.jpg", (2021, 7)),
        ("{taken:%Y}/{taken:%B %m}/{filename}", "1904/July 07/x.jpg", (1904, 7)),
        ("{taken:%d%m%Y}{stem}.{ext}", "14072021IMG20220101.jpg", (2021, 7)),
        ("{taken:%Y/%m}/{filename}", "2021/13/x.jpg", None),
        ("{taken:%Y/%m}/{filename}", "elsewhere/x.jpg", None),
    ],
)
def test_a_path_tells_its_month(layout: str, path: str, month: tuple[int, int] | None):
    read = compile_layout(layout, NameRules.PORTABLE).month_reader()
    assert read is not None
    assert read(path) == month


@pytest.mark.parametrize(
    "layout", ["{filename}", "{taken:%Y}/{filename}", "{make}/{taken:%Y/%m}/{filename}",
               "{uploaded:%Y/%m}/{filename}", "{taken:%Y}{make}/{taken:%m}/{filename}"]
)  # fmt: skip
def test_a_layout_without_the_month_in_front_reads_none(layout: str):
    assert compile_layout(layout, NameRules.PORTABLE).month_reader() is None


def test_what_a_layout_writes_it_reads():
    layout = compile_layout("{taken:%Y/%m/%d}/{filename}", NameRules.PORTABLE)
    read = layout.month_reader()
    assert read is not None
    assert read(layout.path(ASSET)) == (2024, 5)


def test_the_path_wins_over_the_files_time():
    may = int(datetime(2020, 5, 15, tzinfo=UTC).timestamp()) * 10**9
    told = [("2021/07/14/a.jpg", may), ("2021/07/15/b.jpg", 0), ("shortened.jpg", may)]
    mirror = Mirror(name="m", account="m")
    assert months_of(told, mirror) == {(2021, 7): 2, (2020, 5): 1}


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 9999), st.integers(1, 12)), st.integers(1, 10**6), max_size=40
    )
)
def test_no_photo_is_lost_between_chart_and_what_lies_outside(months: dict[tuple[int, int], int]):
    shown = series(months, NOW)
    assert sum(shown.counts) + shown.earlier + shown.later == sum(months.values())
    assert shown.month(len(shown.counts) - 1) == (2026, 11)
    assert 12 <= len(shown.counts) <= 600
    assert as_html(chart(shown)).count("<rect ") == sum(1 for count in shown.counts if count)


@given(st.text(), st.text())
def test_text_stays_text(text: str, attribute: str):
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: found.append((tag, attrs))  # type: ignore[method-assign]
    reader.feed(as_html(element("p", text, title=attribute)))
    assert found == [("p", [("title", attribute)])]


def test_spans_and_numbers():
    assert span(timedelta(minutes=1)) == "1 minute"
    assert span(timedelta(hours=47)) == "47 hours"
    assert span(timedelta(hours=49)) == "2 days"
    assert counted(1234567, "photo") == "1\u202f234\u202f567 photos"
