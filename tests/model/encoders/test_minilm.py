from immr.model.encoders import minilm


def test_the_weights_are_read_from_the_package() -> None:
    spec = minilm.spec()
    assert (spec.name, spec.dim) == (minilm.NAME, 384)
    assert (spec.folder / "tokenizer.json").is_file()
    assert len(spec.hash) == 16
