import math
from typing import get_args

import pytest
import torch

from immr.model.fusion import ConceptFusion, ConceptPatchFusion, ConceptReader, make_fusion
from immr.model.model_recipe import FusionName

B, D, E, F, K, T, P = 3, 4, 6, 5, 2, 7, 9


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask_BT = torch.arange(T)[None] < torch.tensor([[7], [3], [1]])
    return torch.randn(B, D), torch.randn(B, P, F), torch.randn(B, T, E), mask_BT


@pytest.mark.parametrize("name", get_args(FusionName))
def test_every_fusion_ignores_padding(name, inputs):
    v_BD, patches_BPF, tokens_BTE, mask_BT = inputs
    fusion = make_fusion(name, dim=D, text_dim=E, patch_dim=F, concepts=K)
    fused_BD = fusion(v_BD, patches_BPF, tokens_BTE, mask_BT)
    assert fused_BD.shape == (B, D)
    padded = tokens_BTE.masked_fill(~mask_BT[..., None], 99.0)
    torch.testing.assert_close(fusion(v_BD, patches_BPF, padded, mask_BT), fused_BD)


def test_concept_fusion_follows_the_papers_equations(inputs):
    v_BD, _, tokens_BTE, mask_BT = inputs
    fusion = ConceptFusion(D, E, K)
    fused_BD = fusion(v_BD, None, tokens_BTE, mask_BT)
    w1, w2, w3 = (w.weight.T for w in (fusion.read.w1, fusion.read.w2, fusion.read.w3))
    w4, w5, w6 = (w.weight.T for w in (fusion.w4, fusion.w5, fusion.w6))
    memory_KD = fusion.read.memory_KD
    for row in range(B):
        t = tokens_BTE[row, mask_BT[row]]
        v = v_BD[row : row + 1]
        concepts = torch.softmax(memory_KD @ w1 @ (t @ w2).T / math.sqrt(D), -1) @ (t @ w3)
        z = torch.softmax(v @ w4 @ (concepts @ w5).T / math.sqrt(D), -1) @ (concepts @ w6)
        gate = torch.sigmoid(fusion.gate.w7(torch.cat([v, z], -1)))
        torch.testing.assert_close(fused_BD[row : row + 1], v + gate * z)


def test_image_fusion_ignores_text_and_text_fusion_ignores_pictures(inputs):
    v_BD, _, tokens_BTE, mask_BT = inputs
    image = make_fusion("image", D, E, F, K)
    text = make_fusion("text", D, E, F, K)
    assert torch.equal(image(v_BD, None, tokens_BTE * 0, mask_BT), v_BD)
    assert torch.equal(text(v_BD, None, tokens_BTE, mask_BT), text(v_BD * 0, None, tokens_BTE, mask_BT))


def test_patch_fusion_reads_every_patch(inputs):
    v_BD, patches_BPF, tokens_BTE, mask_BT = inputs
    fusion = ConceptPatchFusion(D, E, F, K)
    changed = patches_BPF.clone()
    changed[0, -1] += 1
    before, after = (fusion(v_BD, patches, tokens_BTE, mask_BT) for patches in (patches_BPF, changed))
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(before[1:], after[1:])


def test_competing_concepts_share_each_token_out(inputs):
    _, _, tokens_BTE, mask_BT = inputs
    reader = ConceptReader(D, E, K, compete=True)
    query_KE = reader.w1(reader.memory_KD) @ reader.w2.weight / math.sqrt(D)
    for row in range(B):
        tokens_TE = tokens_BTE[row, mask_BT[row]]
        shares_KT = torch.softmax(query_KE @ tokens_TE.T, dim=0)
        weights_KT = shares_KT / shares_KT.sum(1, keepdim=True)
        expected_KD = reader.w3(weights_KT @ tokens_TE)
        torch.testing.assert_close(reader(tokens_BTE, mask_BT)[row], expected_KD, atol=1e-5, rtol=1e-4)
