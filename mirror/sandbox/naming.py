"""What gives names to ids: albums, people, tags, partners, stacks."""

from collections import Counter

from mirror.sandbox import answers
from mirror.sandbox.asking import Ask, Routes
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()


@ROUTES.add("GET", "/api/albums", "album.read")
def _albums(ask: Ask) -> Reply:
    """3.x: own and shared, `isOwned`, `isShared`; 2.x: own, or with `shared` the shared ones."""
    albums = sorted(ask.library.albums_of(ask.user_id), key=lambda album: album.created_at)
    owned, shared = ask.flag("isOwned"), ask.flag("isShared")
    if not ask.modern:
        shared = ask.flag("shared")
        owned = True if shared is None else None
    chosen = [
        album
        for album in reversed(albums)
        if owned in {None, album.owner_id == ask.user_id}
        and shared in {None, bool(album.members) or album.has_shared_link}
    ]
    return from_json([answers.album(ask.library, album, ask.user_id) for album in chosen])


@ROUTES.add("GET", "/api/albums/{id}", "album.read")
def _one_album(ask: Ask) -> Reply:
    album = ask.album(ask.id())
    answer = answers.album(ask.library, album, ask.user_id, whole=True)
    if not ask.modern and ask.flag("withoutAssets"):
        answer["assets"] = []
    return from_json(answer)


@ROUTES.add("GET", "/api/people", "person.read")
def _people(ask: Ask) -> Reply:
    """Those with a name or enough faces, the most seen first; hidden ones only when asked for.

    Who is on no photo of the timeline is not there at all.
    """
    seen = Counter(
        person_id
        for asset in ask.library.own(ask.user_id)
        if asset.visibility == "timeline" and not asset.trashed
        for person_id in asset.person_ids
    )
    own = [person for person in ask.library.people.values() if person.id in seen]
    shown = [
        person
        for person in own
        if (person.name or seen[person.id] >= answers.MIN_FACES)
        and (ask.flag("withHidden") or not person.is_hidden)
    ]
    shown.sort(key=lambda p: (p.is_hidden, not p.is_favorite, not p.name, -seen[p.id], p.name))
    page, size = ask.number("page", 1, highest=1 << 31), ask.number("size", 500, highest=1000)
    return from_json(
        {
            "people": [answers.person(person) for person in shown[(page - 1) * size : page * size]],
            "hasNextPage": len(shown) > page * size,
            "total": len(own),
            "hidden": sum(person.is_hidden for person in own),
        }
    )


@ROUTES.add("GET", "/api/tags", "tag.read")
def _tags(ask: Ask) -> Reply:
    own = [tag for tag in ask.library.tags.values() if tag.owner_id == ask.user_id]
    return from_json([answers.tag(tag) for tag in sorted(own, key=lambda tag: tag.value)])


@ROUTES.add("GET", "/api/partners", "partner.read")
def _partners(ask: Ask) -> Reply:
    with_me = ask.query.get("direction") == "shared-with"
    cards = []
    for partner in ask.library.partners:
        here, there = (partner.to_id, partner.from_id)
        if not with_me:
            here, there = there, here
        if here == ask.user_id:
            card = answers.user_card(ask.library.users[there])
            cards.append(card | {"inTimeline": partner.in_timeline})
    return from_json(cards)


@ROUTES.add("GET", "/api/stacks", "stack.read")
def _stacks(ask: Ask) -> Reply:
    own = (stack for stack in ask.library.stacks.values() if stack.owner_id == ask.user_id)
    return from_json([answers.stack(ask.library, stack) for stack in own])
