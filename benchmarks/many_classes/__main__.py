"""Learning with thousands of classes: recall of unseen designers' drawings, among 20,000 icons.

    python -m benchmarks.many_classes --json many_classes.json
    python -m benchmarks.many_classes --choose               # on a split made inside train
    python -m benchmarks.many_classes --choose --only conflicts
    python -m benchmarks.many_classes --choose --trained-classes 1500 --only fine-tuned --epochs 1 --processes 1
    python -m benchmarks.many_classes --only towers --classes 1500 --tower-epochs 20   # a few minutes

Rows of the table, each with recall@1 and recall@10 of photos whose class was trained (seen) or not (unseen):

frozen      nearest document by frozen, centred encoder features: the floor that training has to beat
framed      the same with the recipe's framing
towers      towers on frozen features; the full softmax, and sampled softmaxes at two rates
fine-tuned  the recipe `many_classes`, as its version serves: ONNX query encoder and embedded documents
without photos  the same version, whose items are found by their documents alone
one view    both again, with documents from one view of their picture
conflicts   towers trained on 0, 20 and 40 % wrong labels, with and without the filter of conflicting negatives

Items marked unseen take no part in training, neither their photos nor their documents. `--choose` is for
choosing hyper-parameters: it holds out designers and classes of `train` and never reads `val`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.figures import JsonFile, write_figures
from benchmarks.fine_tuning import with_documents
from benchmarks.fusion import training_set_of
from benchmarks.many_classes.splits import held_out, mislabelled, some_classes, trained_classes
from immr.data.pictures import picture_files
from immr.datasets.labelled_set import LabelledSet
from immr.datasets.named import load_dataset
from immr.evaluation.exact_search import best_picture
from immr.launch.launcher import TrainingJob
from immr.launch.local import LocalLauncher
from immr.machine.allocator import keep_freed_memory
from immr.model.documents import encode_documents, encode_pictures
from immr.model.features.document_features import DocumentFeatures
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.model_recipe import ModelRecipe
from immr.model.query_encoder import OnnxQueryEncoder
from immr.model.towers import DocumentBatch
from immr.recipes import Recipe, by_name
from immr.settings import Settings
from immr.storage import fingerprint
from immr.train import job as training
from immr.train.checkpoint import Checkpoints
from immr.train.inputs.features import training_arrays
from immr.train.job import TrainJob
from immr.train.loop import Trainer
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World, world_from_environment

RATES = (1.0, 0.1, 0.02)
WRONG_LABELS, CONFLICT_COSINES = (0.0, 0.2, 0.4), (1.0, 0.6, 0.4)
FROZEN_SIDE_PX = 128
_BATCH = 128


@dataclass(frozen=True)
class Outcome:
    """Recall of one row, and what it cost."""

    seen: tuple[float, float]  # recall@1, recall@10
    unseen: tuple[float, float]
    training_s: float = 0.0


def main(
    split: str = "val",
    choose: Annotated[bool, typer.Option(help="Evaluate on a split made inside train.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Of fine-tuning, instead of the recipe's.")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Of fine-tuning, with batches of the same size in all; 1 on one GPU.")
    ] = None,
    tower_epochs: Annotated[int, typer.Option(help="Of towers on frozen features.")] = 6,
    classes: Annotated[
        int, typer.Option(help="Only so many classes, drawn at random, photos and documents; 0: all.")
    ] = 0,
    trained: Annotated[
        int, typer.Option("--trained-classes", help="Train so many classes; documents stay. 0: all.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of what --choose and --trained-classes draw.")] = 0,
    only: Annotated[
        str, typer.Option(help="frozen, towers, fine-tuned or conflicts; the first three if empty.")
    ] = "",
    json_file: JsonFile = None,
) -> None:
    """Recall by what was trained: nothing, the towers, the encoder."""
    keep_freed_memory()
    settings, recipe = Settings(), by_name("many_classes")
    labelled = load_dataset("icons", settings.data_mirror, settings.cache_dir)
    if choose:
        labelled, split = held_out(labelled, seed), "val"
    if classes:
        labelled = some_classes(labelled, classes)
    if trained:
        labelled = trained_classes(labelled, trained, seed)
    outcomes: dict[str, Outcome] = {}
    with TemporaryDirectory() as folder:
        bench = Bench(labelled, split, recipe, settings.cache_dir, Path(folder), tower_epochs)
        for name, outcome in bench.rows(only, epochs, processes):
            outcomes[name] = outcome
            print(f"{name:16} {outcome}", flush=True)
            write_figures(json_file, figures(outcomes))
    _show(outcomes, f"icons, {split}, {len(labelled.items)} documents")


class Bench:
    """The data set, its training set, and the photos to search with."""

    def __init__(
        self,
        labelled: LabelledSet,
        split: str,
        recipe: Recipe,
        cache_dir: Path,
        folder: Path,
        tower_epochs: int,
    ):
        self.items, self.recipe, self.cache_dir, self.folder = labelled.items, recipe, cache_dir, folder
        self.tower_epochs = tower_epochs
        row_of = {item.item_id: row for row, item in enumerate(labelled.items)}
        self.photos = labelled.split(split)
        self.right_N = torch.tensor([row_of[photo.item_id] for photo in self.photos])
        self.unseen_N = torch.tensor([photo.unseen for photo in self.photos])
        unseen = frozenset(row_of[item_id] for item_id in labelled.unseen_items)
        self.training_sets = {
            share: training_set_of(mislabelled(labelled, share), unseen, folder / f"training-set-{share}")
            for share in WRONG_LABELS
        }

    def rows(self, only: str, epochs: int | None, processes: int | None) -> Iterator[tuple[str, Outcome]]:
        """Name and outcome of each row of the table."""
        if only in ("", "frozen"):
            yield "frozen", self.frozen(ModelRecipe(fusion="image", image_size_px=FROZEN_SIDE_PX))
            yield "framed", self.frozen(self.recipe.model)
        if only in ("", "fine-tuned"):
            yield from self.fine_tuned(epochs, processes)
        for rate in RATES if only in ("", "towers") else ():
            yield f"towers, rate {rate:g}", self.towers(rate)
        for share in WRONG_LABELS if only == "conflicts" else ():
            for cosine in CONFLICT_COSINES:
                yield f"{share:.0%} wrong, up to {cosine:g}", self.towers(1.0, share, cosine)

    def frozen(self, model: ModelRecipe) -> Outcome:
        """Nearest document by features that no label has touched, each side centred."""
        documents_MF = self._documents(model).pictures_BF
        photos_NF = self._photos(model)
        return self._outcome(
            F.normalize(photos_NF - photos_NF.mean(0), dim=-1),
            F.normalize(documents_MF - documents_MF.mean(0), dim=-1),
        )

    def towers(self, rate: float, wrong: float = 0.0, conflict_cosine: float = 1.0) -> Outcome:
        """Towers on frozen features, with the full or a sampled softmax, on labels some of which are wrong."""
        model, defaults = self.recipe.model, TrainRecipe()
        train = replace(
            defaults,
            epochs=self.tower_epochs,
            batch_size=defaults.batch_size * defaults.processes,
            document_batch_size=defaults.document_batch_size * defaults.processes,
            views=1,
            dropout=self.recipe.train.dropout,
            negative_rate=rate,
            conflict_cosine=conflict_cosine,
            checkpoint_every_steps=10**9,
        )
        arrays = training_arrays(self.training_sets[wrong], model, train.views, self.cache_dir, World())
        began = time.perf_counter()
        trainer = Trainer(arrays, model, train, World())
        towers = trainer.run(Checkpoints(self.folder / "towers", "benchmark", World()), tracker=None)
        seconds = time.perf_counter() - began
        with torch.inference_mode():
            photos_ND, documents_MD = (
                towers.query(self._photos(model)),
                towers.document(self._documents(model)),
            )
        return self._outcome(photos_ND, documents_MD, seconds)

    def fine_tuned(self, epochs: int | None, processes: int | None) -> Iterator[tuple[str, Outcome]]:
        """The recipe as its version serves, and without the training photos of the items' classes."""
        recipe = self.recipe
        tuning = recipe.train.fine_tune
        assert tuning is not None
        wanted = processes or recipe.train.processes
        train = replace(
            recipe.train,
            processes=wanted,
            fine_tune=replace(
                tuning,
                epochs=epochs or tuning.epochs,
                batch_size=tuning.batch_size * recipe.train.processes // wanted,
                document_batch_size=tuning.document_batch_size * recipe.train.processes // wanted,
            ),
        )
        job = TrainJob(
            training_set=self.training_sets[0.0].folder,
            out=self.folder / "version",
            checkpoints=self.folder / "checkpoints",
            cache_dir=self.cache_dir,
            recipe_name=recipe.name,
            model=recipe.model,
            train=train,
            key=fingerprint.of_values(train),
            manifest_hash="benchmark",
        )
        began = time.perf_counter()
        if train.processes == 1:
            with world_from_environment() as world:  # a GPU if there is one
                training.run(job, world)
        else:
            job.write(self.folder / "job.json")
            LocalLauncher().run(TrainingJob("benchmark", self.folder / "job.json", train.processes, job.out))
        seconds = time.perf_counter() - began
        photos_ND = self._encoded(job.out)
        one_view = with_documents(job.out, self.folder / "one-view", document_views=1)
        for version, views in ((job.out, ""), (one_view, ", one view")):
            found = encode_pictures(version, self.items, self.cache_dir)
            documents_MD = encode_documents(version, self.items, self.cache_dir)
            yield (
                f"fine-tuned{views}",
                self._outcome(photos_ND, torch.from_numpy(found.rows_PD), seconds, found.pictures_N),
            )
            yield f"without photos{views}", self._outcome(photos_ND, torch.from_numpy(documents_MD), seconds)

    def _encoded(self, version: Path) -> Tensor:
        encoder = OnnxQueryEncoder(version, threads=torch.get_num_threads())
        parts = [self.photos[start : start + _BATCH] for start in range(0, len(self.photos), _BATCH)]
        decoded = ([encoder.decode(picture_files.read(photo.image)) for photo in part] for part in parts)
        return torch.cat([torch.from_numpy(encoder.encode(pictures)) for pictures in decoded])

    def _photos(self, model: ModelRecipe) -> Tensor:
        features = ImageFeatures(model, self.cache_dir)
        hashes = image_hashes([photo.image for photo in self.photos])
        features.compute(hashes, ["fit"], Share(threads=torch.get_num_threads()))
        read = features.read([hashes[photo.image] for photo in self.photos], ["fit"])
        return read.in_view(0).float()

    def _documents(self, model: ModelRecipe) -> DocumentBatch:
        features, rows = DocumentFeatures(model, self.cache_dir), torch.arange(len(self.items))
        features.compute(self.items, ["fit"], Share(threads=torch.get_num_threads()))
        return features.read(self.items, ["fit"]).batch(rows, torch.zeros_like(rows))

    def _outcome(
        self,
        photos_ND: Tensor,
        documents_PD: Tensor,
        training_s: float = 0.0,
        pictures_M: Sequence[int] | None = None,
    ) -> Outcome:
        def scores(part_BD: Tensor) -> Tensor:
            return torch.from_numpy(best_picture((part_BD @ documents_PD.T).numpy(), pictures_M))

        best_N10 = torch.cat([scores(part_BD).topk(10).indices for part_BD in photos_ND.split(_BATCH)])
        found_N10 = (best_N10 == self.right_N[:, None]).float()
        at_N2 = torch.stack([found_N10[:, 0], found_N10.amax(1)], dim=1)
        seen, unseen = (at_N2[rows].mean(0).tolist() for rows in (~self.unseen_N, self.unseen_N))
        return Outcome((seen[0], seen[1]), (unseen[0], unseen[1]), training_s)


def figures(outcomes: dict[str, Outcome]) -> dict[str, object]:
    """The figures that the docs quote, and all rows."""
    found: dict[str, object] = {"rows": {name: vars(outcome) for name, outcome in outcomes.items()}}
    for prefix, name in (("val", "fine-tuned"), ("frozen", "frozen")):
        if name in outcomes:
            for group in ("seen", "unseen"):
                at_1, at_10 = getattr(outcomes[name], group)
                found |= {f"{prefix}_{group}_recall_at_1": at_1, f"{prefix}_{group}_recall_at_10": at_10}
    full, sampled = outcomes.get("towers, rate 1"), outcomes.get("towers, rate 0.1")
    if full and sampled:
        found["sampled_minus_full"] = sampled.seen[0] - full.seen[0]
    return found


def _show(outcomes: dict[str, Outcome], title: str) -> None:
    table = Table("", "seen @1", "seen @10", "unseen @1", "unseen @10", "training, min", title=title)
    for name, row in outcomes.items():
        recalls = (f"{value:.3f}" for value in (*row.seen, *row.unseen))
        table.add_row(name, *recalls, f"{row.training_s / 60:.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
