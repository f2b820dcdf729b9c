"""Which assets there are: searches, counts, the timeline."""

from collections.abc import Iterator

from mirror.sandbox import answers, search, validation
from mirror.sandbox.asking import Ask, Routes
from mirror.sandbox.faults import Faults
from mirror.sandbox.records import StoredAsset
from mirror.sandbox.refusals import Refusal
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()


@ROUTES.add("POST", "/api/search/metadata", "asset.read")
def _search(ask: Ask) -> Reply:
    fields = validation.read(ask.object, modern=ask.modern)
    found = search.page(ask.library, ask.user_id, fields, hidden=ask.faults.hidden)
    if not ask.faults.undatable.isdisjoint(asset.id for asset in found.assets):
        raise Refusal(500, "Internal server error")
    rows = list(_as_listed(found.assets, ask.faults))
    items = [
        answers.listed(
            ask.library,
            asset,
            ask.user_id,
            with_exif=bool(fields.get("withExif")),
            with_people=bool(fields.get("withPeople")),
        )
        for asset in rows
    ]
    following = None if found.next_page is None or ask.faults.short_pages else str(found.next_page)
    page = {"total": len(items), "count": len(items), "items": items, "facets": []}
    none = {"total": 0, "count": 0, "items": [], "facets": []}
    return from_json({"albums": none, "assets": page | {"nextPage": following}})


def _as_listed(assets: list[StoredAsset], faults: Faults) -> Iterator[StoredAsset]:
    """A page as it arrives, which is not always as it should be."""
    for asset in assets[: len(assets) - faults.short_pages]:
        yield from [asset] * (2 if asset.id in faults.repeated else 1)


@ROUTES.add("POST", "/api/search/statistics", "asset.statistics")
def _search_statistics(ask: Ask) -> Reply:
    """The flat filters without withDeleted; never the exemption of albums from the owner scope."""
    fields = validation.read(ask.object, modern=ask.modern)
    fields.pop("withDeleted", None)
    owners = {ask.user_id, *ask.library.partners_of(ask.user_id, in_timeline=True)}
    found = search.find(ask.library, ask.user_id, fields)
    return from_json({"total": sum(asset.owner_id in owners for asset in found)})
