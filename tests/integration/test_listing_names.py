import pytest

from mirror.core.model import Choice, Filter
from mirror.errors import AmbiguousNameError, PermissionMissingError, UnknownNameError
from mirror.immich.client import Client
from mirror.immich.names import Vanished, resolve
from mirror.sandbox.library import Library
from mirror.sandbox.samples import sample_library
from mirror.sandbox.server import Sandbox

VERSIONS = pytest.mark.parametrize("version", ["2.7.5", "3.1.0"])
SOMEONE = "00000000-0000-4000-8000-000000000000"


def client_of(sandbox: Sandbox, key: str = "all") -> Client:
    return Client(sandbox.url, sandbox.api_keys[key])


def empty(version: str = "3.1.0") -> Library:
    return sample_library(0, version=version)


@VERSIONS
async def test_names_become_ids_and_are_pinned(version: str) -> None:
    library = empty(version)
    photo = library.upload("a.jpg", b"a")
    ann = library.make_person("Ann", photo.id).id
    album = library.make_album("Summer / 2020", [photo.id]).id
    japan = library.tag("Travel/Japan", photo.id).id
    filter_ = Filter(
        people=Choice(("Ann", SOMEONE), every=True),
        albums=Choice(("Summer / 2020",)),
        tags=Choice(("Travel/Japan",)),
    )
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        resolved = await resolve(client, filter_)
    assert resolved.filter == Filter(
        people=Choice((ann, SOMEONE), every=True),
        albums=Choice((album,)),
        tags=Choice((japan,)),
    )
    assert resolved.new_pins == {
        ("people", "Ann"): ann,
        ("albums", "Summer / 2020"): album,
        ("tags", "Travel/Japan"): japan,
    }
    assert resolved.vanished == []


async def test_ids_are_taken_as_they_are_without_asking() -> None:
    filter_ = Filter(people=Choice((SOMEONE,)), albums=Choice((SOMEONE,)), tags=Choice((SOMEONE,)))
    async with Sandbox(empty()) as sandbox, client_of(sandbox, "minimum") as client:
        await client.connect()
        asked = len(sandbox.requests)
        assert (await resolve(client, filter_)).filter == filter_
        assert (await resolve(client, Filter())).filter == Filter()
        assert len(sandbox.requests) == asked


@VERSIONS
async def test_an_album_shared_with_me_has_a_name_too(version: str) -> None:
    library = sample_library(60, version=version)
    (partner,) = library.users.keys() - {library.owner_id}
    theirs = library.make_album("Theirs", owner_id=partner)
    theirs.members[library.owner_id] = "viewer"
    theirs.asset_ids = [asset.id for asset in library.own(partner)]
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        resolved = await resolve(client, Filter(albums=Choice(("Theirs",))))
    assert resolved.filter.albums == Choice((theirs.id,))


@pytest.mark.parametrize(
    ("filter_", "near"),
    [
        (Filter(people=Choice(("Granma",))), "'Grandma'"),
        (Filter(albums=Choice(("summer",))), "'Summer'"),
        (Filter(tags=Choice(("Travel/Japon",))), "'Travel/Japan'"),
        (Filter(people=Choice(("Xyzzy",))), "the account has 2 people"),
    ],
)
async def test_an_unknown_name_is_refused_with_the_nearest(filter_: Filter, near: str) -> None:
    async with Sandbox(sample_library(60)) as sandbox, client_of(sandbox) as client:
        await client.connect()
        with pytest.raises(UnknownNameError) as caught:
            await resolve(client, filter_)
    assert near in caught.value.hint
    assert caught.value.exit_code == 2


async def test_two_of_one_name_are_listed_with_what_tells_them_apart() -> None:
    library = empty()
    photo = library.upload("a.jpg", b"a")
    one, other = library.make_person("Ann", photo.id), library.make_person("Ann", photo.id)
    one.birth_date = "1990-01-01"
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        with pytest.raises(AmbiguousNameError, match="2 people are called 'Ann'") as caught:
            await resolve(client, Filter(people=Choice(("Ann",))))
    assert f"{one.id} (born 1990-01-01)" in caught.value.hint
    assert other.id in caught.value.hint


async def test_a_tag_may_be_named_by_its_last_part_while_that_is_unique() -> None:
    library = empty()
    japan = library.tag("Travel/Japan").id
    library.tag("Food/Soup")
    library.tag("Winter/Soup")
    top = library.tag("Food").id
    library.tag("Pets/Food")
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        resolved = await resolve(client, Filter(tags=Choice(("Japan", "Food"))))
        with pytest.raises(AmbiguousNameError):
            await resolve(client, Filter(tags=Choice(("Soup",))))
    assert resolved.filter.tags == Choice((japan, top))


async def test_hidden_people_have_names_too() -> None:
    library = empty()
    person = library.make_person("Ann", library.upload("a.jpg", b"a").id)
    person.is_hidden = True
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        resolved = await resolve(client, Filter(people=Choice(("Ann",))))
    assert resolved.filter.people == Choice((person.id,))


async def test_a_pinned_name_keeps_its_id_whatever_it_means_now() -> None:
    library = empty()
    photo = library.upload("a.jpg", b"a")
    renamed, twin = library.make_person("Ann", photo.id), library.make_person("Bob", photo.id)
    pins = {("people", "Ann"): renamed.id, ("people", "Bob"): twin.id}
    renamed.name = "Anna"
    library.make_person("Bob", photo.id)  # ambiguous, and yet pinned
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        resolved = await resolve(client, Filter(people=Choice(("Ann", "Bob"))), pins)
    assert resolved.filter.people == Choice((renamed.id, twin.id))
    assert resolved.vanished == [Vanished("people", "Ann", renamed.id)]
    assert resolved.new_pins == {}


@pytest.mark.parametrize(
    ("filter_", "permission"),
    [
        (Filter(people=Choice(("Ann",))), "person.read"),
        (Filter(albums=Choice(("Summer",))), "album.read"),
        (Filter(tags=Choice(("Travel",))), "tag.read"),
    ],
)
async def test_a_key_that_may_not_look_up_names_is_told_the_way_out(
    filter_: Filter, permission: str
) -> None:
    async with Sandbox(sample_library(30)) as sandbox, client_of(sandbox, "minimum") as client:
        await client.connect()
        with pytest.raises(PermissionMissingError, match=permission) as caught:
            await resolve(client, filter_)
    assert "ids instead of names" in caught.value.hint


async def test_people_come_in_pages() -> None:
    library = empty()
    photo = library.upload("a.jpg", b"a")
    for number in range(1001):
        library.make_person(f"Person {number:04d}", photo.id)
    async with Sandbox(library) as sandbox, client_of(sandbox) as client:
        await client.connect()
        wanted = Choice(("Person 0000", "Person 1000"))
        resolved = await resolve(client, Filter(people=wanted))
        assert sum(request.path == "/api/people" for request in sandbox.requests) == 2
    assert len(resolved.new_pins) == 2
