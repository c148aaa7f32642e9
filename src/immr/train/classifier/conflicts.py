"""Conflicting negatives: classes that look like the example but are not its label.

Two classes may be the same thing, and a label may be wrong. In both cases the softmax would push an example
away from a class that it resembles. As in Partial FC (arXiv 2010.05222, arXiv 2203.15565), such classes are
left out of the example's softmax.
"""

from __future__ import annotations

import math

from torch import Tensor


def drop_conflicts(logits_AS: Tensor, smallest_logit: float) -> None:
    """Set logits above `smallest_logit` to −∞, in place, so they take no part in the softmax.

    Call it before the logits of the right classes are written, which may be above the limit.
    """
    logits_AS.masked_fill_(logits_AS > smallest_logit, -math.inf)
