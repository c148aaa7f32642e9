import numpy as np
import pytest

from immr.data.time_steps import MINUTE_US, STEPS_US, step_between


@pytest.mark.parametrize("step", STEPS_US)
def test_the_step_of_rounded_times_is_found(step: int) -> None:
    time_N = np.random.default_rng(0).integers(0, 365 * 1440 * MINUTE_US, 2_000)
    assert step_between(time_N) == 0
    rounded_N = time_N // step * step
    assert step_between(rounded_N) == step
    assert step_between(np.append(rounded_N, time_N[:10])) == step, "a few times are exact"
    assert step_between(np.append(rounded_N, time_N[:100])) == 0


def test_no_times_have_no_step() -> None:
    assert step_between(np.array([], np.int64)) == 0
