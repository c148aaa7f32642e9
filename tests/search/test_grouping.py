from immr.search.grouping import (
    MEMBERS,
    fingerprint,
    first_of_each,
    group_of,
    of_groups,
    with_members,
    without_all_members,
)
from immr.types import Candidate, Condition, Filters, Hit


def hit(item_id: str, **attributes: str) -> Hit:
    return Hit(item_id, 1.0, item_id, "Clothes", "", attributes=attributes)


def candidate(item_id: str, **attributes: str) -> Candidate:
    return Candidate(item_id, 0.5, item_id, "Clothes", "", attributes)


def test_an_item_without_the_attribute_is_a_group_of_its_own() -> None:
    assert group_of(hit("a", model="m"), "model") == "m"
    assert group_of(hit("a"), "model") is None
    assert group_of(hit("a"), "category") == "Clothes"
    assert fingerprint(hit("a"), "model") != fingerprint(hit("b"), "model")
    assert fingerprint(hit("a", model="m"), "model") == fingerprint(hit("b", model="m"), "model")
    assert fingerprint(hit("a"), "model") != fingerprint(hit("b", model="a"), "model")


def test_members_are_looked_up_in_the_groups_of_the_hits() -> None:
    hits = [hit("a", model="m"), hit("b"), hit("c", model="n"), hit("d", model="m")]
    found = of_groups(Filters("Clothes"), "model", hits)
    assert found == Filters("Clothes", conditions=(Condition("model", ("m", "n")),))
    assert of_groups(Filters(), "model", [hit("b")]) is None


def test_a_hit_gets_the_other_members_of_its_group() -> None:
    found = [candidate(f"m{n}", model="m") for n in range(MEMBERS + 5)] + [candidate("b"), candidate("x")]
    first, alone = with_members([hit("m3", model="m"), hit("b")], [], found, "model")
    assert first.group == "m" and len(first.members) == MEMBERS
    assert [member.item_id for member in first.members[:4]] == ["m0", "m1", "m2", "m4"]
    assert (alone.group, alone.members) == (None, ())


def test_the_first_of_each_group_without_those_of_earlier_pages() -> None:
    found = [
        candidate("a", model="m"),
        candidate("b"),
        candidate("c", model="m"),
        candidate("d", model="n"),
        candidate("e"),
    ]
    earlier = frozenset([fingerprint(found[3], "model")])
    assert [each.item_id for each in first_of_each(found, "model", earlier).values()] == ["a", "b", "e"]


def test_only_members_that_were_not_seen_are_looked_up() -> None:
    seen = [candidate(f"m{n}", model="m") for n in range(MEMBERS + 1)] + [candidate("n0", model="n")]
    hits = [hit("m0", model="m"), hit("n0", model="n")]
    assert without_all_members(hits, seen, "model") == hits[1:]
    found = [candidate("n0", model="n"), candidate("n1", model="n")]
    first, second = with_members(hits, seen, found, "model")
    assert [member.item_id for member in first.members] == [f"m{n}" for n in range(1, MEMBERS + 1)]
    assert [member.item_id for member in second.members] == ["n1"]
