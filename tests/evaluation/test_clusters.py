from __future__ import annotations

from immr.data.training_set import LabelledPhoto
from immr.evaluation.clusters import Clusters, all_clusterings, default_clusters


def photos(users: int, named: bool = True) -> list[LabelledPhoto]:
    return [
        LabelledPhoto(f"q{number}", "", number % 3, user_id=f"u{number % users}" if named else None)
        for number in range(40)
    ]


def test_users_are_the_clusters_if_all_photos_name_enough_of_them() -> None:
    clusters = default_clusters(photos(users=12))
    assert (clusters.unit, clusters.count, clusters.ids[1]) == ("user", 12, "u1")


def test_classes_are_the_clusters_if_users_are_unknown_or_few() -> None:
    for unknown in (photos(users=12, named=False), photos(users=9), [*photos(12), *photos(12, named=False)]):
        clusters = default_clusters(unknown)
        assert (clusters.unit, clusters.count, clusters.ids[4]) == ("class", 3, "1")


def test_clusters_read_as_a_count_and_a_noun() -> None:
    assert str(Clusters("class", ("a", "b", "a"))) == "2 classes"
    assert str(Clusters("user", ("a",))) == "1 user"


def test_a_difference_may_depend_on_classes_beside_users() -> None:
    few = photos(users=12)  # of three classes
    assert all_clusterings(default_clusters(few), few) == (default_clusters(few),)
    many = [LabelledPhoto(f"q{number}", "", number % 20, user_id=f"u{number}") for number in range(40)]
    users, classes = all_clusterings(default_clusters(many), many)
    assert (users.unit, str(classes)) == ("user", "20 classes")
    assert all_clusterings(classes, many) == (classes,)
