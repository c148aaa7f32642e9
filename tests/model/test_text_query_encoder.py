from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from immr.model.text_query_encoder import TextQueryEncoder
from tests.model.test_text_tower import export_text_encoder, towers_of

WITHOUT_TORCH = """
import sys
from pathlib import Path
sys.modules["torch"] = sys.modules["transformers"] = None  # importing them fails
from immr.model.text_query_encoder import TextQueryEncoder
print(TextQueryEncoder(Path(sys.argv[1])).encode("fresh milk").shape)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version's folder with a text encoder."""
    folder = tmp_path_factory.mktemp("version")
    towers = towers_of(folder, "bert", "gated")
    export_text_encoder(towers.recipe, towers.document, folder)
    return folder


def test_texts_are_embedded_as_unit_vectors_also_blank_ones(folder: Path) -> None:
    encoder = TextQueryEncoder(folder)
    for text in ("fresh milk", "unknown", "", " "):
        embedding_D = encoder.encode(text)
        assert embedding_D.dtype == np.float32
        assert np.linalg.norm(embedding_D) == pytest.approx(1.0, abs=1e-3)


def test_many_threads_get_the_same_embeddings(folder: Path) -> None:
    texts = [" ".join(["brown", "bread", "fresh", "milk"][: number % 4 + 1]) for number in range(40)]
    one_after_the_other = TextQueryEncoder(folder)
    expected_ND = np.stack([one_after_the_other.encode(text) for text in texts])
    encoder = TextQueryEncoder(folder, at_once=2, remembered=0)
    with ThreadPoolExecutor(4) as pool:
        assert np.array_equal(list(pool.map(encoder.encode, texts)), expected_ND)


def test_a_text_is_encoded_once(folder: Path) -> None:
    encoder = TextQueryEncoder(folder)
    first_D = encoder.encode("fresh milk")
    assert encoder.encode("  fresh   milk ") is first_D, "the tokens are the same"
    assert encoder.encode("brown bread") is not first_D
    with pytest.raises(ValueError, match="read-only"):
        first_D[0] = 0


def test_serving_needs_no_torch(folder: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "(24,)"
