"""A labelled set as the CSV export of a German shop system: semicolons, decimal commas, its own column names."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from immr.datasets.labelled_set import LabelledSet
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe

ITEMS = ("Artikelnummer", "Bezeichnung", "Beschreibung", "Warengruppe", "VK-Preis", "Lagerbestand")
ITEMS += ("Bild", "Geändert am", "Marke", "Lieferant")
SEARCHES = ("Such-ID", "Kunde", "Zeitpunkt", "Foto")
CLICKS = ("Such-ID", "Artikelnummer", "Position", "geklickt", "bestellt", "Zeitpunkt")
FIRST_ID = 100_017
_TITLES = ("Schöner Artikel „{}“", "Grüne Größe: {}", "日本語の商品 {}")
_ZONE = ZoneInfo("Europe/Berlin")


def write(
    folder: Path,
    labelled: LabelledSet,
    names: tuple[str, str, str] = ("artikel", "suchen", "klicks"),
    encoding: str = "utf-8-sig",
    recipe: SimulationRecipe = SimulationRecipe(users=40),  # noqa: B008
) -> dict[str, str]:
    """Write the three tables and their pictures; positions start at 0, as many systems count.

    Returns:
        The shop's item ids by the set's.
    """
    simulate(labelled, folder.parent / "simulated", recipe)
    tables = {
        name: pq.read_table(folder.parent / "simulated" / f"{name}.parquet").to_pylist()
        for name in ("items", "queries", "impressions")
    }
    (folder / "bilder").mkdir(parents=True)
    ids = {row["item_id"]: str(FIRST_ID + number) for number, row in enumerate(tables["items"])}
    _write(folder / f"{names[0]}.csv", encoding, ITEMS, _items(tables["items"], ids, folder, encoding))
    _write(
        folder / f"{names[1]}.csv",
        encoding,
        SEARCHES,
        (
            (row["query_id"], row["user_id"], _time(row["ts"]), _copied(row["image"], folder))
            for row in tables["queries"]
        ),
    )
    _write(
        folder / f"{names[2]}.csv",
        encoding,
        CLICKS,
        (
            (
                row["query_id"],
                ids[row["item_id"]],
                row["position"] - 1,
                "ja" if row["clicked"] else "nein",
                "ja" if row["ordered"] else "nein",
                _time(row["ts"]),
            )
            for row in tables["impressions"]
        ),
    )
    shutil.rmtree(folder.parent / "simulated")
    return ids


def _items(
    rows: Sequence[dict[str, object]], ids: dict[str, str], folder: Path, encoding: str
) -> Iterable[tuple[object, ...]]:
    titles = _TITLES if encoding.startswith("utf") else _TITLES[:2]
    for number, row in enumerate(rows):
        price = f"{float(str(row['price'])) + 1290 * (number % 5 == 0):,.2f}"
        yield (
            ids[str(row["item_id"])],
            titles[number % len(titles)].format(row["title"]),
            f"{row['description']}\nPflegehinweis: nur mit „weichem“ Tuch; nicht scheuern.",
            " > ".join(["Haushalt", *str(row["category"]).split("/")]),
            price.translate(str.maketrans(",.", ".,")) + " €",
            ("3", "0", "")[number % 3],
            _copied(str(row["image"]), folder),
            _time(row["updated_at"]),
            ("Müller", "Åhléns", "Süßwaren GmbH")[number % 3],
            "intern",
        )


def _copied(picture: str, folder: Path) -> str:
    source = Path(picture)
    name = f"bilder/{source.parent.name}-{source.name}"
    if not (folder / name).exists():
        shutil.copy(source, folder / name)
    return name


def _time(moment: object) -> str:
    return moment.astimezone(_ZONE).strftime("%d.%m.%Y %H:%M:%S")  # type: ignore[attr-defined, no-any-return]


def _write(path: Path, encoding: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=";", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(header)
        writer.writerows(rows)
