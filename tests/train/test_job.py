import dataclasses
import json

import numpy as np
from PIL import Image

from immr.evaluation.exact_search import best_picture
from immr.model.documents import encode_documents, encode_pictures
from immr.model.model_card import Card
from immr.model.query_encoder import OnnxQueryEncoder
from immr.train.job import TrainJob, run
from immr.train.world import World
from tests.support.tiny_training_set import TRAIN


def test_a_job_survives_json(job, tmp_path):
    job.write(tmp_path / "job.json")
    assert TrainJob.read(tmp_path / "job.json") == job


def test_a_version_is_complete_and_finds_the_held_out_photos(job, training_set):
    job = dataclasses.replace(job, model=dataclasses.replace(job.model, photos_per_class=2))
    run(job, World())
    assert sorted(path.name for path in job.out.iterdir()) == [
        "card.json",
        "class_photos.npz",
        "curves.json",
        "query_encoder.onnx",
        "text_encoder.bin",
        "text_encoder.xml",
        "tokenizer.json",
        "towers.pt",
    ]
    assert Card.read(job.out).key == "key-1"
    assert len(json.loads((job.out / "curves.json").read_text())["loss"]) == 12
    assert not job.checkpoints.exists()
    documents_MD = encode_documents(job.out, training_set.items, job.cache_dir)
    photos = [Image.open(judgement.image).convert("RGB") for judgement in training_set.judgements]
    queries_ND = OnnxQueryEncoder(job.out).encode(photos)
    assert ((queries_ND @ documents_MD.T).argmax(1) == np.arange(6)).mean() >= 5 / 6
    found = encode_pictures(job.out, training_set.items, job.cache_dir)
    assert found.pictures_N == [3] * 6, "an item is also found by two training photos of its class"
    best_NM = best_picture(queries_ND @ found.rows_PD.T, found.pictures_N)
    assert (best_NM.argmax(1) == np.arange(6)).mean() >= 5 / 6


def test_an_existing_version_is_not_trained_again(job):
    job = dataclasses.replace(job, train=TRAIN)
    run(job, World())
    before = (job.out / "towers.pt").stat().st_mtime_ns
    run(job, World())
    assert (job.out / "towers.pt").stat().st_mtime_ns == before
    run(dataclasses.replace(job, key="key-2"), World())
    assert Card.read(job.out).key == "key-2"
