import dataclasses

import torch
import torch.nn.functional as F

from immr.model.towers import Towers
from immr.train.classifier.class_shard import Shard
from immr.train.optimization.imprinting import imprinted_rows
from immr.train.world import World
from tests.support.random_arrays import random_arrays
from tests.support.tiny_training_set import MODEL


def _towers(arrays) -> Towers:
    torch.manual_seed(0)
    towers = Towers(MODEL, hide=0.5).train()
    towers.fit(arrays.photos_NVF.flatten(0, 1), arrays.documents.pictures_NVF.flatten(0, 1))
    return towers


def test_a_class_begins_as_the_mean_of_its_documents(tmp_path):
    arrays = dataclasses.replace(
        random_arrays(tmp_path), document_classes_M=torch.tensor([0, 1, 2, 3, 0, 1]), class_count=4
    )
    towers = _towers(arrays)
    rows_CD = imprinted_rows(towers, arrays, Shard(4, MODEL.dim, World()))
    assert towers.training
    every_M = torch.arange(6)
    embedded_MD = towers.eval().document(arrays.documents.batch(every_M, torch.zeros_like(every_M)))
    learned_MD = F.normalize(embedded_MD[:, : MODEL.dim], dim=-1)
    torch.testing.assert_close(F.normalize(rows_CD[2], dim=0), learned_MD[2])
    torch.testing.assert_close(F.normalize(rows_CD[0], dim=0), F.normalize(learned_MD[[0, 4]].mean(0), dim=0))
    torch.testing.assert_close(rows_CD.norm(dim=1), torch.full((4,), 0.01 * MODEL.dim**0.5))


def test_first_rows_do_not_depend_on_the_number_of_ranks(tmp_path):
    arrays = random_arrays(tmp_path)
    towers = _towers(arrays)
    whole_CD, *parts = (
        imprinted_rows(towers, arrays, Shard(6, MODEL.dim, world))
        for world in (World(), *(World(rank, 4) for rank in range(4)))
    )
    torch.testing.assert_close(torch.cat(parts), whole_CD)  # the last rank has no class
