from immr.search.grouping import fingerprint, first_of_each, group_of, groups_of, without_groups
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


def test_members_of_groups_are_filtered_out() -> None:
    found = without_groups(Filters("Clothes"), "model", ["m", "n"])
    assert found == Filters("Clothes", conditions=(Condition("model", ("m", "n"), negated=True, exact=True),))
    assert groups_of([candidate("a", model="m"), candidate("b"), candidate("c", model="m")], "model") == {"m"}


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
