import numpy as np

from immr.model.documents import PictureEmbeddings
from immr.ranking.first_stage import first_stage
from tests.support.ranking_log import embeddings


def test_ranks_and_heads_are_those_of_a_full_sort() -> None:
    queries_QD, items_ND = embeddings(7, 3), embeddings(40, 4)
    query_R = np.array([0, 0, 2, 3, 3, 3, 6])  # some queries were shown nothing that is known
    item_R = np.array([5, 39, 0, 7, 8, 9, 20])
    found = first_stage(
        queries_QD, PictureEmbeddings.one_each(items_ND), query_R, item_R, max_cells=100
    )  # blocks of two queries
    order_QN = np.argsort(-(queries_QD @ items_ND.T), axis=1)
    assert found.head_QH.tolist() == order_QN[:, :10].tolist()
    for row, (query, item) in enumerate(zip(query_R, item_R, strict=True)):
        assert found.rank_R[row] == 1 + order_QN[query].tolist().index(item)
        assert np.isclose(found.cosine_R[row], queries_QD[query] @ items_ND[item])
    assert (np.diff(found.head_cosine_QH, axis=1) <= 0).all()


def test_a_catalogue_smaller_than_the_head_is_all_head() -> None:
    found = first_stage(
        embeddings(2, 0), PictureEmbeddings.one_each(embeddings(3, 1)), np.array([0, 1]), np.array([2, 0])
    )
    assert found.head_QH.shape == (2, 3)


def test_an_item_counts_by_its_best_picture() -> None:
    queries_QD, pictures_PD = embeddings(2, 3), embeddings(7, 4)
    found = first_stage(
        queries_QD, PictureEmbeddings(pictures_PD, [3, 1, 3]), np.array([0, 1]), np.array([0, 2])
    )
    cosine_QP = queries_QD @ pictures_PD.T
    assert np.allclose(found.cosine_R, [cosine_QP[0, :3].max(), cosine_QP[1, 4:].max()])
    assert found.head_QH.shape == (2, 3)


def test_a_photo_of_the_log_does_not_find_itself() -> None:
    queries_QD, pictures_PD = embeddings(2, 3), embeddings(3, 4)
    rows_PD = np.stack([pictures_PD[0], queries_QD[0], pictures_PD[2]])
    items = PictureEmbeddings(rows_PD, [2, 1], np.array([-1, 0, -1]), photos_KD=queries_QD[:1])
    found = first_stage(queries_QD, items, np.array([0, 1]), np.array([0, 0]))
    cosine_QP = queries_QD @ rows_PD.T
    assert np.allclose(found.cosine_R, [cosine_QP[0, 0], cosine_QP[1, :2].max()])
