import dataclasses
import subprocess
import sys

import numpy as np
import torch
from PIL import Image

from immr.model.query_encoder import OnnxQueryEncoder
from immr.model.texture import TEXTURE_DIM
from immr.model.towers import Towers
from immr.train.export import export_query_encoder
from tests.support import tiny_encoders
from tests.support.tiny_training_set import MODEL
from tests.support.untrained_version import write_untrained


def test_query_encoder_needs_no_torch(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "concept")
    assert export_query_encoder(MODEL, towers.query, tmp_path, cache_dir) < 1e-5
    encoder = OnnxQueryEncoder(tmp_path)
    images = [Image.open(query.image) for query in training_set.queries[:17]]
    embeddings_ND = encoder.encode(images)
    assert embeddings_ND.shape == (17, MODEL.embedding_dim)
    np.testing.assert_allclose(np.linalg.norm(embeddings_ND, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(images[16:]), embeddings_ND[16:], atol=1e-5)
    assert encoder.encode([]).shape == (0, MODEL.embedding_dim)
    embedding_D, texture_T = encoder.encode_with_texture(images[0])
    np.testing.assert_array_equal(embedding_D, embeddings_ND[0])
    assert texture_T is not None and texture_T.shape == (TEXTURE_DIM,) and np.isfinite(texture_T).all()
    code = (
        "import sys; from pathlib import Path; from PIL import Image;"
        "from immr.model.query_encoder import OnnxQueryEncoder;"
        f"OnnxQueryEncoder(Path({str(tmp_path)!r})).encode([Image.new('RGB', (80, 90))]);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_encoder_with_an_inner_edge_named_embedding_is_exported(tmp_path):
    """Exported CLIP models have one, as the query encoder's output is named."""
    clip = tiny_encoders.image_model("clip", tmp_path / "clip")
    recipe = dataclasses.replace(MODEL, image_encoder=clip, image_size_px=tiny_encoders.SIDE)
    torch.manual_seed(0)
    towers = Towers(recipe).eval()
    towers.fit(torch.rand(40, tiny_encoders.WIDTH), torch.rand(20, tiny_encoders.WIDTH))
    assert export_query_encoder(recipe, towers.query, tmp_path, tmp_path / "cache") < 1e-4
