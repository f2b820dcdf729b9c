"""What an API key may do, against what a profile needs."""

import pytest

from mirror.core.model import Choice, Filter, Mirror
from mirror.core.permissions import ALWAYS, judged, needed

ID = "0f3a5e0c-1234-4cde-8000-5ecde7b1a2c3"


def a_mirror(filter_: Filter, *exclude: Filter) -> Mirror:
    return Mirror(name="m", account="me", filter=filter_, exclude=exclude)


@pytest.mark.parametrize(
    ("mirror", "more"),
    [
        (a_mirror(Filter()), set()),
        (a_mirror(Filter(people=Choice((ID,)))), set()),
        (a_mirror(Filter(people=Choice(("Grandma",)))), {"person.read"}),
        (a_mirror(Filter(people=Choice((ID, "Grandma"), every=True))), {"person.read"}),
        (a_mirror(Filter(tags=Choice(("a/b",)))), {"tag.read"}),
        (a_mirror(Filter(), Filter(albums=Choice(("Private",)))), {"album.read"}),
    ],
)
def test_names_must_be_looked_up_and_ids_need_nothing(mirror: Mirror, more: set[str]):
    assert needed([mirror]) == ALWAYS | more


def test_what_is_needed_and_no_more_is_neither_lacking_nor_beyond():
    found = judged(["asset.read", "asset.download", "user.read"], ALWAYS)
    assert (found.lacking, found.beyond, found.changing) == ((), (), ())


def test_what_is_missing_is_named():
    assert judged(["asset.read"], ALWAYS | {"tag.read"}).lacking == ("asset.download", "tag.read")


def test_a_key_that_may_do_everything_lacks_nothing_and_can_change_everything():
    found = judged(["all"], ALWAYS)
    assert (found.lacking, found.beyond, found.changing) == ((), ("all",), ("all",))


def test_only_what_changes_something_is_told_as_such():
    granted = [*ALWAYS, "asset.view", "server.statistics", "asset.delete", "albumAsset.create"]
    found = judged(granted, ALWAYS)
    assert found.beyond == ("albumAsset.create", "asset.delete", "asset.view", "server.statistics")
    assert found.changing == ("albumAsset.create", "asset.delete")


def test_a_permission_that_nobody_knows_yet_is_taken_for_a_dangerous_one():
    assert judged([*ALWAYS, "asset.transmogrify"], ALWAYS).changing == ("asset.transmogrify",)
