"""The scale of the cosine softmax, from the number of classes. Pure."""

from __future__ import annotations

import math

SMALLEST = 10.0  # for fewer than about 1,200 classes; measured on 81 (the groceries)


def logit_scale(class_count: int) -> float:
    """√2 ln(C − 1), the fixed scale of AdaCos (arXiv 1905.00292), and at least `SMALLEST`.

    With a smaller scale even a perfect embedding cannot bring the loss of C classes near zero (NormFace,
    arXiv 1704.06369). It is 12.4 for 7,000 classes and 19.5 for a million.
    """
    return max(SMALLEST, math.sqrt(2) * math.log(max(2, class_count - 1)))
