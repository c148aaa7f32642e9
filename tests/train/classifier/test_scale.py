import math

import pytest

from immr.train.classifier.scale import SMALLEST, logit_scale


@pytest.mark.parametrize("classes", [1, 2, 10, 81, 1000])
def test_few_classes_get_the_smallest_scale(classes):
    assert logit_scale(classes) == SMALLEST


@pytest.mark.parametrize("classes", [7_000, 1_000_000, 10_000_000])
def test_a_perfect_embedding_of_many_classes_can_reach_a_low_loss(classes):
    # right cosine 1, all others 0: what orthogonal classes reach
    scale = logit_scale(classes)
    assert math.log1p((classes - 1) * math.exp(-scale)) < 0.1
