from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mirror.core.layout import fold
from mirror.core.model import Row
from mirror.core.order import Step, steps, waves
from mirror.core.plan import Action, Kind, Reason
from tests.world import Node, RefusedError, Tree


def a_move(source: str, path: str) -> Action:
    known = Row(asset_id=source, owner_id="me", checksum=b"", base=source, path=source)
    return Action(kind=Kind.MOVE, reason=Reason.RENAMED, path=path, row=known, source=source)


def _parking(action: Action) -> str:
    return f".mirror/moving/{action.asset_id}"


def told(moves: list[Action]) -> list[str]:
    return [f"{step.source} > {step.path}" for step in steps(moves, _parking)]


def carried_out(moves: list[Action], *, folding: bool = False) -> Tree:
    """What lies there after the steps: each file holds the name that it had."""
    tree = Tree(folding=folding)
    for move in moves:
        tree.put(move.source, Node(content=move.source.encode()))
    for step in steps(moves, _parking):
        tree.move(step.source, step.path)
    return tree


def test_independent_moves_keep_their_order():
    assert told([a_move("a", "x"), a_move("b", "y")]) == ["a > x", "b > y"]


def test_a_chain_begins_at_its_free_end():
    chain = [a_move("a", "b"), a_move("b", "c"), a_move("c", "d")]

    assert told(chain) == ["c > d", "b > c", "a > b"]


def test_two_files_exchange_their_names_by_way_of_parking():
    swap = [a_move("a", "b"), a_move("b", "a")]

    assert told(swap) == ["a > .mirror/moving/a", "b > a", ".mirror/moving/a > b"]
    assert carried_out(swap).content("a") == b"b"


def test_a_circle_of_three_parks_one():
    circle = [a_move("a", "b"), a_move("b", "c"), a_move("c", "a")]

    done = list(steps(circle, _parking))

    assert [step.last for step in done] == [False, True, True, True]
    assert carried_out(circle).content("a") == b"c"


def test_only_the_case_of_a_name_changes_by_way_of_parking():
    move = a_move("A.jpg", "a.jpg")

    assert list(steps([move], _parking)) == [
        Step(move, "A.jpg", ".mirror/moving/A.jpg", last=False),
        Step(move, ".mirror/moving/A.jpg", "a.jpg"),
    ]


def test_names_exchanged_across_case_meet_nothing_where_case_makes_no_difference():
    swap = [a_move("A.jpg", "b.jpg"), a_move("B.jpg", "a.jpg")]

    tree = carried_out(swap, folding=True)

    assert {path for path in tree.nodes() if path.endswith("jpg")} == {"b.jpg", "a.jpg"}


def test_a_file_leaves_before_a_folder_of_its_name_is_made():
    moves = [a_move("x", "a/b"), a_move("y", "a/c"), a_move("a", "z")]

    assert told(moves) == ["a > z", "x > a/b", "y > a/c"]


def test_a_file_that_moves_into_a_folder_of_its_own_name_is_parked():
    assert told([a_move("a", "a/b")]) == ["a > .mirror/moving/a", ".mirror/moving/a > a/b"]


def test_a_chain_as_long_as_a_library_is_no_matter_of_recursion():
    chain = [a_move(f"{number:05}", f"{number + 1:05}") for number in range(20_000)]

    assert [step.source for step in steps(chain, _parking)][:2] == ["19999", "19998"]


_NAMES = ("a", "b", "c", "d", "A", "a/b", "a/c", "c/d", "B/x")


@st.composite
def _moves(draw: st.DrawFn) -> list[Action]:
    """Moves from where files can lie to where files can lie, no two from or to one name."""
    sources = _that_fit(draw(st.permutations(_NAMES)))
    paths = _that_fit(draw(st.permutations(_NAMES)))
    count = draw(st.integers(0, min(len(sources), len(paths))))
    pairs = zip(sources[:count], paths[:count], strict=True)
    return [a_move(source, path) for source, path in pairs if source != path]


def _that_fit(names: list[str]) -> list[str]:
    tree, kept = Tree(folding=True), []
    for name in names:
        try:
            tree.put(name, Node())
        except RefusedError:
            continue
        kept.append(name)
    return kept


@given(moves=_moves(), folding=st.booleans())
def test_no_step_meets_anything_whatever_the_moves(moves: list[Action], *, folding: bool):
    # A folder that a file leaves may be wanted as a file: no plan asks for that.
    folders = {fold(move.source).rpartition("/")[0] for move in moves} - {""}
    moves = [move for move in moves if fold(move.path) not in folders]

    tree = carried_out(moves, folding=folding)

    for move in moves:
        assert tree.content(move.path) == move.source.encode()
    assert sum(step.last for step in steps(moves, _parking)) == len(moves)


# -- side by side ----------------------------------------------------------------------------------


def test_moves_that_have_nothing_to_do_with_each_other_are_one_wave():
    moves = [a_move(f"a/{number}", f"b/{number}") for number in range(5)]
    assert [len(wave) for wave in waves(steps(moves, _parking))] == [5]


def test_a_move_waits_for_the_one_whose_place_it_takes():
    chain = [a_move("a", "b"), a_move("b", "c"), a_move("x", "y")]
    told = [[step.source for step in wave] for wave in waves(steps(chain, _parking))]
    assert told == [["b"], ["a", "x"]]


@given(moves=_moves(), folding=st.booleans(), random=st.randoms(use_true_random=False))
def test_a_wave_may_be_taken_in_any_order(moves: list[Action], random: Random, *, folding: bool):
    folders = {fold(move.source).rpartition("/")[0] for move in moves} - {""}
    moves = [move for move in moves if fold(move.path) not in folders]
    tree = Tree(folding=folding)
    for move in moves:
        tree.put(move.source, Node(content=move.source.encode()))
    ordered = list(steps(moves, _parking))
    told = list(waves(ordered))
    assert [step for wave in told for step in wave] == ordered
    for wave in told:
        for step in random.sample(wave, len(wave)):
            tree.move(step.source, step.path)
    for move in moves:
        assert tree.content(move.path) == move.source.encode()
