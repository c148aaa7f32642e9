import pytest
import torch

from immr.train.classifier.matmul import product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5, 4), (64, 32, 700), (1, 8, 1), (4, 8, 0), (0, 8, 4)])
def test_the_product_is_right_in_any_layout(dtype, shape):
    m, k, n = shape
    generator = torch.Generator().manual_seed(0)
    left_MK, right_KN = (torch.randn(size, generator=generator, dtype=dtype) for size in ((m, k), (k, n)))
    expected_MN = (left_MK.double() @ right_KN.double()).to(dtype)
    for left in (left_MK, left_MK.T.contiguous().T):
        for right in (right_KN, right_KN.T.contiguous().T):
            torch.testing.assert_close(product(left, right), expected_MN, rtol=1e-5, atol=1e-5)
