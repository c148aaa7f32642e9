"""Checks a sample of a shop's tables and reports what fits the data contract, without writing anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.data import attributes
from immr.data.contract import CONTRACT, ITEMS
from immr.data.mapping.proposal import MappingProposal
from immr.data.mapping.shop_map import PictureRules, ShopMap
from immr.data.mapping.value_formats import unclear_price
from immr.data.pictures.picture_files import is_file
from immr.data.pictures.remote.buckets import is_in
from immr.data.pictures.remote.requests import is_url
from immr.data.sources import table_recognition
from immr.data.sources.locations import listing_once
from immr.data.sources.shop import Chunk, Shop, ShopTable
from immr.data.sources.sql_tables import QueriedPart
from immr.data.sources.table_parts import CHUNK_ROWS
from immr.data.table_chunks import Typed, printed, typed
from immr.data.validation.across_tables import shifted_times, unknown_items
from immr.data.validation.duplicate_rows import are_repeated, why_repeated
from immr.data.validation.known_keys import KnownKeys
from immr.data.validation.missing_pictures import remedy
from immr.data.validation.row_rules import broken, rules_of
from immr.data.validation.table_proposal import proposed
from immr.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 100_000
_FILES_NAMED = 3
_PICTURES = 1_000  # whose files are looked for
_KEYS = ("item_id", "query_id", "ts", "position")  # of the sample, for what no single row shows
_FEW_POSITIONS = 100  # rows; the lowest of so few says little


@dataclass(frozen=True)
class BrokenRule:
    """A rule that rows of the sample break."""

    reason: str
    rows: int
    example: str  # the value in the first of them


@dataclass(frozen=True)
class TableReport:
    """How one table fits the contract."""

    name: str
    files: int = 0
    sampled: int = 0
    valid: int = 0
    problems: tuple[BrokenRule, ...] = ()
    ignored_columns: tuple[str, ...] = ()
    missing_pictures: str = ""  # a sentence, if files of the first pictures are missing
    all_pictures_missing: bool = False  # whether not one of them can be read
    unclear_price: str = ""  # a sentence, if a price may mean thousands
    unknown_items: str = ""  # a sentence, if rows name items that the catalogue does not have
    shifted_times: str = ""  # a sentence, if rows are hours before or after their searches
    late_positions: str = ""  # a sentence, if no row has the first position
    error: str = ""  # why the table cannot be read at all
    proposal: MappingProposal | None = None  # a mapping, if the table does not fit as it is

    @property
    def fits(self) -> bool:
        """Whether every row of the sample is valid."""
        return not self.error and self.valid == self.sampled


@listing_once()
def check(source: Shop | str | Path, rows: int = SAMPLE_ROWS) -> list[TableReport]:
    """Check the first rows of each table of a shop.

    Of duplicate keys, those within the sample are found. Items that impressions name are looked for if the sample has
    the whole catalogue.

    Args:
        source: the shop; a single file is a catalogue.
        rows: sampled per table.

    Returns:
        A report per table; an optional table that is missing has none.
    """
    named, reports = Shop.of(source), list[TableReport]()
    keys: dict[str, pd.DataFrame] = {}
    shop = table_recognition.with_recognized_tables(named)
    for contract in [ITEMS] if shop.is_catalogue else CONTRACT:
        try:
            table = shop.table(contract)
        except ContractError as error:
            unread = table_recognition.unused_files(shop, contract)[:_FILES_NAMED]
            more = [each for each in unread if each not in str(error)]
            reports.append(TableReport(contract.name, error="; ".join([*more, str(error)])))
            continue
        if table:
            by_its_columns = table.mapping.source != named.mapping.table(contract.name).source
            also = table_recognition.files_like(shop, table.mapping.source) if by_its_columns else []
            report, keys[contract.name] = _report(
                table, rows, shop.mapping.pictures.buckets, by_its_columns, also
            )
            reports.append(report)
    sampled = {report.name: report.sampled for report in reports if not report.error}
    if not sampled.get("impressions"):
        return reports
    has_all_items = 0 < sampled.get("items", 0) < rows
    unknown = unknown_items(keys["items"], keys["impressions"]) if has_all_items else ""
    shifted = shifted_times(keys["queries"], keys["impressions"]) if sampled.get("queries") else ""
    late = _late_positions(keys["impressions"])
    return [
        replace(report, unknown_items=unknown, shifted_times=shifted, late_positions=late)
        if report.name == "impressions"
        else report
        for report in reports
    ]


def _late_positions(impressions: pd.DataFrame) -> str:
    positions = impressions["position"].dropna()
    if len(positions) < _FEW_POSITIONS or (lowest := int(positions.min())) < 2:
        return ""
    return (
        f"positions start at {lowest}: if the slots before it show items too, log them; else position bias is "
        f"relative to position {lowest}, and there is no CTR@1"
    )


def proposed_mapping(reports: Sequence[TableReport], shop: Shop | None = None) -> str:
    """A mapping file with the proposals of all tables; empty if there are none.

    Args:
        reports: of `check`.
        shop: what was checked; its own mapping is part of the proposal.
    """
    proposals = {report.name: report.proposal for report in reports if report.proposal}
    if not proposals:
        return ""
    mapping = shop.mapping if shop else ShopMap()
    head = [f"source = {json.dumps(mapping.source, ensure_ascii=False)}\n"] if mapping.source else []
    kept = {
        contract.name: as_it_is
        for contract in CONTRACT
        if (as_it_is := MappingProposal.of(mapping.table(contract.name))).to_toml(contract.name)
    }
    tables = [proposal.to_toml(name) for name, proposal in (kept | proposals).items()]
    return "\n".join([*head, *tables, *_pictures(mapping.pictures)])


def _pictures(rules: PictureRules) -> list[str]:
    """The part of a mapping file about pictures, if it is not the default."""
    import tomli_w

    default = asdict(PictureRules())
    changed = {
        name: {key: str(each) for key, each in value.items()} if isinstance(value, Mapping) else value
        for name, value in asdict(rules).items()
        if value != default[name]
    }
    return [tomli_w.dumps({"pictures": changed})] if changed else []


def _report(
    table: ShopTable, rows: int, buckets: Sequence[str], by_its_columns: bool, also: Sequence[str]
) -> tuple[TableReport, pd.DataFrame]:
    """The report and the sample's keys. `also`: files with the same columns, perhaps parts of the table."""
    (report, keys), left_out = _fit(table, rows, buckets), []
    if by_its_columns:
        found = f"no file has the name of this table; {table.mapping.source} has its columns: use a mapping"
        has, is_left = ("has", "is") if len(also) == 1 else ("have", "are")
        left_out = [f"{', '.join(also)} {has} the same columns, and {is_left} left out"] if also else []
        report = replace(report, error="; ".join([found, *left_out]))
    if report.fits or table.mapping.columns:
        return report, keys
    proposal = proposed(table)
    if proposal and left_out:
        note = f'source: {left_out[0]}; "*.csv" is a source of several files'
        proposal = replace(proposal, notes=[note, *proposal.notes])
    return replace(report, proposal=proposal), keys


def _fit(table: ShopTable, rows: int, buckets: Sequence[str]) -> tuple[TableReport, pd.DataFrame]:
    import pandas as pd

    contract = table.contract
    sampled, valid, unclear = 0, 0, ""
    counts, examples, pictures = Counter[str](), dict[str, str](), list[str]()
    keys = [pd.DataFrame()]
    rules, before = rules_of(contract, datetime.now(UTC)), KnownKeys()
    try:
        first = table.parts[0]
        there = [] if isinstance(first, QueriedPart) else first.columns()  # a query is run once
        for chunk in _sample(table, rows):
            there = there or list(chunk.raw.schema.names)
            read = typed(chunk.mapped, contract, chunk.part.place, table.beside)
            reasons = _reasons(read, rules)
            if not contract.merged:
                repeated = are_repeated(read.frame, reasons, contract, before)
                reasons = reasons.mask(repeated, why_repeated(contract))
            bad = reasons[reasons != ""]
            sampled, valid = sampled + len(chunk.raw), valid + len(chunk.raw) - len(bad)
            counts.update(bad.tolist())
            for row, reason in bad.drop_duplicates().items():
                examples.setdefault(reason, _example(chunk, table, row, reason))
            unclear = unclear or unclear_price(chunk.mapped, contract.columns.names, table.mapping.columns)
            if "image" in read.frame and len(pictures) < _PICTURES:
                pictures += read.frame["image"][reasons == ""].tolist()
            keys.append(read.frame[[name for name in _KEYS if name in read.frame]])
    except ContractError as error:
        return TableReport(contract.name, len(table.parts), error=str(error)), pd.DataFrame()
    problems = tuple(BrokenRule(reason, count, examples[reason]) for reason, count in counts.most_common())
    rule = table.mapping.columns.get("image")
    pictures_in = rule.column if rule and rule.column else "image"
    missing, all_missing = _missing(pictures[:_PICTURES], buckets, table.beside, pictures_in)
    report = TableReport(
        contract.name,
        files=len(table.parts),
        sampled=sampled,
        valid=valid,
        problems=problems,
        ignored_columns=_ignored(table, there),
        missing_pictures=missing,
        all_pictures_missing=all_missing,
        unclear_price=unclear,
    )
    return report, pd.concat(keys)


def _missing(pictures: Sequence[str], buckets: Sequence[str], folder: str, column: str) -> tuple[str, bool]:
    """A sentence about pictures that cannot be read, and whether these are all; those behind URLs are not requested.

    Args:
        pictures: paths and URLs.
        buckets: places in object stores that may be read.
        folder: where relative paths start.
        column: the shop's, for a remedy.
    """
    elsewhere = [uri for uri in pictures if "://" in uri and not uri.startswith("file://")]
    if far := [uri for uri in elsewhere if not is_url(uri) and not is_in(uri, buckets)]:
        return (
            f"pictures that are neither files nor at http(s): {len(far):,} of the first {len(pictures):,}, such as "
            f"{far[0]}: copy them to a folder, map them to their http(s) URLs, or name their place at s3:// or "
            "gs:// in pictures.buckets of the mapping",
            len(far) == len(pictures),
        )
    here = [picture for picture in pictures if "://" not in picture or picture.startswith("file://")]
    if not (lost := [picture for picture in here if not is_file(picture)]):
        return "", False
    found = remedy(lost, folder, column)
    sentence = f"missing pictures: {len(lost):,} of the first {len(here):,}, such as {lost[0]}{found}"
    return sentence, len(lost) == len(pictures)


def _ignored(table: ShopTable, there: Sequence[str]) -> tuple[str, ...]:
    read = {*table.contract.columns.names, *table.contract.attributes} - {attributes.COLUMN}
    used = {source for rule in table.mapping.columns.values() for source in rule.sources}
    if any(rule.sql for rule in table.mapping.columns.values()):
        return ()
    return tuple(name for name in there if name not in used and name not in read)


def _sample(table: ShopTable, rows: int) -> Iterator[Chunk]:
    left = rows
    for raw, mapped, part in table.chunks(min(rows, CHUNK_ROWS)):
        yield Chunk(raw.slice(0, left), mapped.slice(0, left), part)
        left -= len(raw)
        if left <= 0:
            return


def _reasons(chunk: Typed, rules: Any) -> pd.Series[str]:
    reasons = broken(chunk.frame, rules)
    for reason, rows in reversed(chunk.unreadable.items()):
        reasons[rows] = reason
    return reasons


def _example(chunk: Chunk, table: ShopTable, row: Any, reason: str) -> str:
    """The value as the shop has it. Every reason names its column first."""
    name = reason.removeprefix("duplicate ").split(maxsplit=1)[0]
    rule = table.mapping.columns.get(name)
    if rule and rule.sources:
        return ", ".join(printed(chunk.raw.column(source)[row]) for source in rule.sources)
    return printed(chunk.mapped.column(name)[row]) if name in chunk.mapped.schema.names else ""
