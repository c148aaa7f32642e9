from immr.search.grouping import Group, first_of_each, group_of, rows_of_groups, without_groups
from immr.types import Candidate, Condition, Filters, Hit


def hit(item_id: str, **attributes: str) -> Hit:
    return Hit(item_id, 1.0, item_id, "Clothes", "", attributes=attributes)


def candidate(item_id: str, **attributes: str) -> Candidate:
    return Candidate(item_id, 0.5, item_id, "Clothes", "", attributes)


def test_an_item_without_the_attribute_is_a_group_of_its_own() -> None:
    assert (
        group_of(hit("a", model="m"), "model") == group_of(candidate("b", model="m"), "model") == Group("m")
    )
    assert group_of(hit("a"), "model") == Group(None, "a")
    assert group_of(hit("a"), "category") == Group("Clothes")
    assert group_of(Hit("a", 1.0, "a", "", ""), "category") == Group(None, "a")
    fingerprints = {
        each.fingerprint() for each in (Group("a"), Group("b"), Group(None, "a"), Group(None, "b"))
    }
    assert len(fingerprints) == 4


def test_members_of_groups_are_filtered_out() -> None:
    clothes = Filters("Clothes")
    found = without_groups(clothes, "model", [Group("m"), Group(None, "a"), Group("n")])
    assert found == Filters("Clothes", conditions=(Condition("model", ("m", "n"), negated=True, exact=True),))
    assert without_groups(clothes, "model", [Group(None, "a")]) == clothes


def test_groups_and_their_items_stay_in_order() -> None:
    found = [candidate("a", model="m"), candidate("b"), candidate("c", model="m"), candidate("d", model="n")]
    assert list(rows_of_groups(found, "model").items()) == [
        (Group("m"), [0, 2]),
        (Group(None, "b"), [1]),
        (Group("n"), [3]),
    ]
    assert [each.item_id for each in first_of_each(found, "model").values()] == ["a", "b", "d"]
