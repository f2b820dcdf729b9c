"""Photos per month as a chart: bars that stretch to any width, with their words beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror.core.layout import MONTHS
from mirror.page.elements import Element, element
from mirror.page.words import counted, number
from mirror.status import Month

_MOST_MONTHS: Final = 600  # fifty years; a wrong date of 1904 must not flatten the rest
_FEWEST_MONTHS: Final = 12
_FEW_MONTHS: Final = 30  # up to here the axis names months
_MOST_TICKS: Final = 8
_HEIGHT: Final = 100
_LEAST_BAR: Final = 1.5  # a single photo is to be seen
_GAPLESS_FROM: Final = 150  # bars as thin as that have no room between them


@dataclass(frozen=True, slots=True)
class Series:
    """The months of a chart without a gap, and what lies outside of them."""

    first: Month
    counts: tuple[int, ...]
    earlier: int = 0
    later: int = 0  # dated after the month in which the page was made

    def month(self, place: int) -> Month:
        """The month of a bar."""
        return _month(_ordinal(self.first) + place)


def series(months: Mapping[Month, int], now: datetime) -> Series:
    """Up to this month, as far back as there are photos, fifty years at most."""
    local = now.astimezone()
    by_ordinal = {_ordinal(month): count for month, count in months.items()}
    last = _ordinal((local.year, local.month))
    shown = [month for month in by_ordinal if last - _MOST_MONTHS < month <= last]
    first = min([*shown, last - _FEWEST_MONTHS + 1])
    return Series(
        first=_month(first),
        counts=tuple(by_ordinal.get(month, 0) for month in range(first, last + 1)),
        earlier=sum(count for month, count in by_ordinal.items() if month < first),
        later=sum(count for month, count in by_ordinal.items() if month > last),
    )


def chart(shown: Series) -> Element:
    """A figure: bars, axis, what lies outside, and the numbers of each year for who wants them."""
    most = max(shown.counts)
    return element(
        "figure",
        element("figcaption", "Photos and videos per month, by the date they were taken"),
        element(
            "div",
            element(
                "span", f"{number(most)} in {_named(shown, most)}" if most else "", class_="top"
            ),
            _bars(shown, most),
            _axis(shown),
            class_="plot",
        ),
        _outside(shown),
        _table(shown),
    )


def _bars(shown: Series, most: int) -> Element:
    count = len(shown.counts)
    width = 1.0 if count >= _GAPLESS_FROM else 0.8
    return element(
        "svg",
        *(
            _bar(shown, place, of / most * _HEIGHT, width)
            for place, of in enumerate(shown.counts)
            if of
        ),
        viewBox=f"0 0 {count} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{counted(sum(shown.counts), 'photo or video', 'photos and videos')}"
        f" from {_name(shown.month(0))} to {_name(shown.month(count - 1))}",
    )


def _bar(shown: Series, place: int, height: float, width: float) -> Element:
    height = max(height, _LEAST_BAR)
    told = f"{_name(shown.month(place))}: {number(shown.counts[place])}"
    return element(
        "rect",
        element("title", told),
        x=f"{place + (1 - width) / 2:g}",
        y=f"{_HEIGHT - height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
    )


def _axis(shown: Series) -> Element:
    return element(
        "div",
        *(
            element(
                "span", label, style=f"left:{at:.3%}", class_="end" if at > _room(label) else ""
            )
            for at, label in _ticks(shown)
        ),
        class_="axis",
        aria_hidden="true",
    )


def _room(label: str) -> float:
    """Up to where on the axis there is room for words after their mark, on a narrow screen."""
    return 1 - 0.025 * len(label)


def _ticks(shown: Series) -> Iterator[tuple[float, str]]:
    """Where the axis has words, from 0 to 1: at some Januaries, or of few months at some."""
    count = len(shown.counts)
    if count <= _FEW_MONTHS:
        step = -(-count // _MOST_TICKS)
        for place in range(0, count, step):
            year, month = shown.month(place)
            yield place / count, f"{MONTHS[month - 1][:3]} {year}"
        return
    years = count / 12
    step = next(step for step in (1, 2, 5, 10) if years / step <= _MOST_TICKS)
    for place in range(count):
        year, month = shown.month(place)
        if month == 1 and year % step == 0:
            yield place / count, str(year)


def _outside(shown: Series) -> Element | None:
    told = []
    if shown.earlier:
        told.append(f"{number(shown.earlier)} from before {_name(shown.first)}")
    if shown.later:
        told.append(f"{number(shown.later)} dated in the future")
    return (
        element("p", f"Not in the chart: {' and '.join(told)}.", class_="quiet") if told else None
    )


def _table(shown: Series) -> Element | None:
    """The same in numbers: a row a year, the newest first."""
    years: dict[int, int] = {}
    for place, count in enumerate(shown.counts):
        year = shown.month(place)[0]
        years[year] = years.get(year, 0) + count
    rows = [(year, count) for year, count in reversed(years.items()) if count]
    if not rows:
        return None
    return element("details", element("summary", "The numbers of each year"), _rows(rows))


def _rows(rows: Sequence[tuple[int, int]]) -> Element:
    body = (
        element("tr", element("th", f"{year}", scope="row"), element("td", number(count)))
        for year, count in rows
    )
    return element("table", element("tbody", *body))


def _named(shown: Series, most: int) -> str:
    return _name(shown.month(shown.counts.index(most)))


def _name(month: Month) -> str:
    return f"{MONTHS[month[1] - 1]} {month[0]}"


def _ordinal(month: Month) -> int:
    return month[0] * 12 + month[1] - 1


def _month(ordinal: int) -> Month:
    return ordinal // 12, ordinal % 12 + 1
