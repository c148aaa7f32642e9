from pathlib import Path

import duckdb
import pytest

from immr.data.sources.warehouse import WarehousePart
from immr.errors import ContractError


def test_rows_are_counted_by_the_warehouse(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "shop.db") as base:
        base.execute("CREATE TABLE items AS SELECT i::VARCHAR AS item_id FROM range(7) t(i)")
    url = f"duckdb://{tmp_path / 'shop.db'}"
    assert WarehousePart(url, "items").rows() == 7
    with pytest.raises(ContractError, match="table nothing cannot be read"):
        WarehousePart(url, "nothing").rows()


@pytest.mark.parametrize(
    "url", ["sqlite://typo.db", "sqlite:///{folder}/typo.db", "duckdb:///{folder}/typo.db"]
)
def test_a_wrong_path_creates_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContractError, match=r"typo\.db"):
        WarehousePart(url.format(folder=str(tmp_path)[1:]), "items").rows()
    assert not list(tmp_path.iterdir())


def test_new_rows_and_times_are_noticed_without_reading_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(statement: str) -> str:
        with duckdb.connect(tmp_path / "shop.db") as base:
            base.execute(statement)
        return WarehousePart(f"duckdb://{tmp_path / 'shop.db'}", "items").stamp()

    monkeypatch.setattr(WarehousePart, "batches", lambda *_: pytest.fail("the rows were read"))
    first = run("CREATE TABLE items AS SELECT 'a' AS item_id, TIMESTAMP '2024-05-01 10:00:00' AS updated_at")
    assert run("SELECT 1") == first
    more = run("INSERT INTO items VALUES ('b', '2024-05-01 09:00:00')")
    newer = run("UPDATE items SET updated_at = '2024-05-02 10:00:00' WHERE item_id = 'b'")
    assert len({first, more, newer}) == 3
