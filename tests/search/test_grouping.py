from immr.index.vector_index import MOST_MATCHED
from immr.search.grouping import (
    MEMBERS,
    all_members,
    fingerprint,
    first_of_each,
    group_of,
    members_of,
    of_groups,
    with_members,
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
    assert group_of(Hit("a", 1.0, "a", "", ""), "category") is None
    assert fingerprint(hit("a"), "model") != fingerprint(hit("b"), "model")
    assert fingerprint(hit("a", model="m"), "model") == fingerprint(hit("b", model="m"), "model")
    assert fingerprint(hit("a"), "model") != fingerprint(hit("b", model="a"), "model")


def test_members_are_looked_up_in_the_groups_of_the_hits() -> None:
    hits = [hit("a", model="m"), hit("b"), hit("c", model="n"), hit("d", model="m")]
    found = of_groups(Filters("Clothes"), "model", hits)
    assert found == Filters("Clothes", conditions=(Condition("model", ("m", "n"), exact=True),))
    assert of_groups(Filters(), "model", [hit("b")]) is None


def test_a_hit_gets_the_other_members_of_its_group() -> None:
    found = [candidate(f"m{n}", model="m") for n in range(MEMBERS + 5)] + [candidate("b"), candidate("x")]
    first, alone = with_members(
        [hit("m3", model="m"), hit("b")], members_of(found, "model", is_all=True), "model"
    )
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


def test_a_group_needs_no_search_if_no_further_member_could_be_shown() -> None:
    seen = [candidate(f"m{n}", model="m") for n in range(MEMBERS + 1)] + [candidate("n0", model="n")]
    assert members_of(seen, "model", is_all=False) == {"m": seen[:-1]}
    assert members_of(seen, "model", is_all=True) == {"m": seen[:-1], "n": seen[-1:]}


def test_a_group_that_is_crowded_out_is_searched_for_again() -> None:
    """A large group once left a smaller one with few of its members."""
    large = [candidate(f"m{n}", model="m") for n in range(50)]
    small = [candidate(f"n{n}", model="n") for n in range(12)]
    asked = []

    def search(filters: Filters, most: int) -> list[Candidate]:
        [condition] = filters.conditions
        asked.append(condition.values)
        return [each for each in [*large, *small] if each.attributes["model"] in condition.values][:most]

    found = all_members(
        [hit("m0", model="m"), hit("n0", model="n")], "model", {}, Filters(), search, limit=5000
    )
    assert {group: len(some) for group, some in found.items()} == {"m": 40, "n": 12}
    assert asked == [("m", "n"), ("n",)]


def test_groups_are_complete_although_a_search_by_words_finds_few_items() -> None:
    """One search for 60 groups once found the items of the larger ones only, and the others had no members."""
    of_large = [candidate(f"m{group}-{n}", model=f"m{group}") for n in range(40) for group in range(30)]
    of_small = [candidate(f"n{group}-{n}", model=f"n{group}") for n in range(5) for group in range(30)]
    hits = [hit(f"{kind}{group}-0", model=f"{kind}{group}") for kind in "mn" for group in range(30)]
    hits.append(hit("alone"))
    hits.append(hit("gone", model="gone"))

    def search(filters: Filters, most: int) -> list[Candidate]:
        [condition] = filters.conditions
        passing = [each for each in of_large + of_small if each.attributes["model"] in condition.values]
        return passing[: min(most, MOST_MATCHED)]

    members = all_members(hits, "model", {}, Filters(), search, MOST_MATCHED)
    shown = [len(each.members) for each in with_members(hits, members, "model")]
    assert shown == [MEMBERS] * 30 + [4] * 30 + [0, 0]


def test_a_search_that_completes_no_group_is_the_last() -> None:
    """A category that is not written in the one form is matched by items of the other, again and again."""
    others = [Candidate(f"a{n}", 0.5, "", "A", "") for n in range(30)]
    searches = iter([others] * 3)
    found = all_members(
        [Hit("x", 1.0, "x", "A/", "")],
        "category",
        {},
        Filters(),
        lambda filters, most: next(searches)[:most],
        5000,
    )
    assert set(found) == {"A"}
