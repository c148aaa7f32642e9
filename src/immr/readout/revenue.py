"""Revenue per user, from orders that were sent with an amount.

One large order can outweigh a thousand small ones, and hide a difference between the variants or feign one. So the
revenue of each user is winsorized: what exceeds the 99th percentile of all paying users, of all variants together,
is not counted. The metric is then the mean of that capped revenue; a lift among the largest customers is partly lost.

The cap is computed from the data at each look. It depends on all variants in the same way, so it favours none if they
are equal; `benchmarks.experiment.revenue` counts how often they differ then. Intervals treat the cap as fixed: if the
variants differ, they hold for the revenue below this look's cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from immr.readout.comparison import Ratio

CAP_PERCENTILE = 99.0
ORDER_RATE = Ratio("order rate", "has_ordered", None)
REVENUE_PER_USER = Ratio("revenue per user", "revenue", None, highest=math.inf)
REVENUE_CUPED = Ratio(
    "revenue per user (CUPED)",
    "revenue",
    None,
    highest=math.inf,
    covariates=("revenue_before", None),
)


@dataclass(frozen=True, slots=True)
class Revenue:
    """What the revenue of the test is computed from."""

    cap: float  # of one user's revenue
    orders: int
    priced_orders: int  # orders with an amount; the others count as 0

    @property
    def sentence(self) -> str:
        """The cap, and how many orders have no amount."""
        found = (
            f"Revenue per user counts at most {self.cap:,.2f} of each user, the {CAP_PERCENTILE:.0f}th percentile "
            "of those who paid"
        )
        missing = self.orders - self.priced_orders
        return found + (
            f"; {missing:,} of {self.orders:,} orders have no amount and count as 0." if missing else "."
        )


def cap_revenue(users: pa.Table) -> tuple[pa.Table, Revenue | None]:
    """The users with `revenue` and `revenue_before` capped; unchanged if no order has an amount.

    Args:
        users: One row per user and variant, with `users.COUNTS`, and `users.BEFORE` if known.
    """
    revenue_U = users["revenue"].to_numpy()
    paid_U = revenue_U > 0
    if not paid_U.any():
        return users, None
    cap = float(np.percentile(revenue_U[paid_U], CAP_PERCENTILE))
    for name in ("revenue", "revenue_before"):
        if name in users.column_names:
            capped = pa.array(np.minimum(users[name].to_numpy(), cap))
            users = users.set_column(users.schema.get_field_index(name), name, capped)
    orders, priced = (int(pc.sum(users[name]).as_py()) for name in ("orders", "priced_orders"))
    return users, Revenue(cap, orders, priced)
