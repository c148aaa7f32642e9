import pytest
import torch

from tests.train import ranks
from tests.train.reshard_worker import CASES

WORKER = "tests.train.reshard_worker"
SIZES = (2, 1, 3)
STEPS = "7"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """World size → rank → case; 2 wrote a checkpoint after four steps, 1 and 3 resumed from it."""
    folder = tmp_path_factory.mktemp("ranks")
    groups = [f"{size}:{ranks.free_port()}" for size in SIZES]
    ranks.run(WORKER, max(SIZES), str(folder), STEPS, *groups)
    return {size: ranks.answers(folder / str(size), size) for size in SIZES}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_rows_and_optimizer_state_are_resharded(results, case, size):
    """23 classes: 12 and 11 rows, then 23, then 8, 8 and 7."""
    wrote, found = ([rank[case]["first"] for rank in results[each]] for each in (2, size))
    assert len(wrote[0]) == (3 if case.endswith("adamw") else 2)
    for written, loaded in zip(zip(*wrote, strict=True), zip(*found, strict=True), strict=True):
        assert torch.equal(torch.cat(written), torch.cat(loaded))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", ["exact-adamw", "exact-sgd"])
def test_the_exact_softmax_continues_as_before(results, case, size):
    """At lower rates the negatives are drawn by rank, so another number of ranks draws different ones."""
    for rank in results[size]:
        assert rank[case]["losses"] == pytest.approx(results[2][0][case]["losses"][4:], rel=1e-10)
        for ours, theirs in zip(rank[case]["towers"], results[2][0][case]["towers"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
