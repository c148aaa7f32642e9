import pytest

from immr.train.optimization.schedule import learning_rate


def test_warms_up_then_falls():
    rates = [learning_rate(step, 100, peak=2.0, warmup_share=0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[9] == max(rates) == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_one_step_is_enough():
    assert learning_rate(0, 1, 1.0, 0.0) == 1.0
