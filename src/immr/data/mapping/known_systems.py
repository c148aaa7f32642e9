"""Shop systems whose product export is known by its columns, and the query that makes items of its rows.

An item whose prices cannot be read keeps one of them as it is written, so that its row is rejected for that.

Shopify writes a line for each variant and picture, Wix one for each variant.
WooCommerce and Magento write variants as products of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownSystem:
    """A shop system.

    Attributes:
        name: as its users know it.
        signature: columns that only its export has together.
        query: in DuckDB's SQL. The export's columns are in quotes, and nothing else is.
        note: what the query decides for the shop.
    """

    name: str
    signature: frozenset[str]
    query: str
    note: str

    def sql(self, there: Collection[str]) -> str:
        """The query; columns that the export lacks are empty."""
        return re.sub(
            r'(?:\w+\.)?"([^"]+)"', lambda found: found[0] if found[1] in there else "''", self.query
        )


_SHOPIFY = r"""
SELECT * EXCLUDE pictures, pictures[1] AS image, pictures[2:21] AS images
FROM (
    SELECT "Handle" AS item_id, max("Title") AS title, max("Body (HTML)") AS description,
        coalesce(nullif(max("Product Category"), ''), nullif(max("Type"), ''), 'All') AS category,
        coalesce(CAST(min(TRY_CAST("Variant Price" AS DOUBLE)) FILTER (TRY_CAST("Variant Price" AS DOUBLE) >= 0)
            AS VARCHAR), max(nullif("Variant Price", ''))) AS price, max("Vendor") AS brand,
        CASE WHEN bool_and("Variant Inventory Qty" = '') OR bool_or("Variant Price" <> ''
            AND ("Variant Inventory Tracker" = '' OR lower("Variant Inventory Policy") = 'continue')) THEN NULL
            ELSE sum(greatest(TRY_CAST("Variant Inventory Qty" AS INT), 0)) END AS stock,
        list("Image Src" ORDER BY TRY_CAST("Image Position" AS INT)) FILTER ("Image Src" <> '') AS pictures
    FROM rows GROUP BY "Handle" HAVING lower(max("Status")) IN ('active', '') AND lower(max("Published")) <> 'false'
)
"""
_SHOPIFY_TEMPLATE = {
    "Handle": "URL handle",
    "Published": "Published on online store",
    "Body (HTML)": "Description",
    "Product Category": "Product category",
    "Variant Price": "Price",
    "Variant Inventory Qty": "Inventory quantity",
    "Variant Inventory Tracker": "Inventory tracker",
    "Variant Inventory Policy": "Continue selling when out of stock",
    "Image Src": "Product image URL",
    "Image Position": "Image position",
}
"""Columns of Shopify's newer sample file, by their older names; both are in use."""
_SHOPIFY_NOTE = (
    "a product's variants are one item, with the lowest price that can be read and the stock of all; drafts and what "
    "is not in the online store are left out; the stock is unknown without {}, as in the export of a shop with "
    "several locations"
)
_WIX = r"""
WITH inventories AS (
    SELECT "handleId" AS handle, CASE WHEN bool_or(lower("inventory") = 'instock') THEN NULL
        ELSE sum(greatest(coalesce(TRY_CAST("inventory" AS INT), 0), 0)) FILTER ("inventory" <> '') END AS stock
    FROM rows WHERE lower("fieldType") = 'variant' OR "handleId" NOT IN (
        SELECT v."handleId" FROM rows v WHERE lower(v."fieldType") = 'variant' AND v."inventory" <> '')
    GROUP BY "handleId"
)
SELECT "handleId" AS item_id, "name" AS title, "description" AS description, "price" AS price, "brand" AS brand,
    coalesce(nullif(string_split("collection", ';')[1], ''), 'All') AS category, stock,
    [CASE WHEN picture LIKE '%://%' THEN picture ELSE 'https://static.wixstatic.com/media/' || picture END
        FOR picture IN string_split("productImageUrl", ';') IF picture <> ''] AS pictures,
    pictures[1] AS image, pictures[2:21] AS images
FROM rows JOIN inventories ON handle = "handleId"
WHERE lower("fieldType") = 'product' AND lower("visible") <> 'false'
"""
_WOO = r"""
WITH products AS (
    SELECT *, rowid AS line, string_split(replace(replace("Categories", '&amp;', '&'), '\,', chr(1)), ',') AS paths,
        string_split("Images", ', ') AS pictures,
        nullif(coalesce(nullif("Sale price", ''), "Regular price"), '') AS given,
        TRY_CAST(replace(given, ',', '.') AS DOUBLE) AS price
    FROM rows
), variations AS (
    SELECT "Parent" AS product, min(price) FILTER (price >= 0) AS price, max(given) AS given,
        flatten(list(pictures ORDER BY line)) AS pictures
    FROM products WHERE "Type" LIKE 'variation%' AND "Published" = '1' GROUP BY "Parent"
)
SELECT "ID" AS item_id, "Name" AS title, "Brands" AS brand,
    coalesce(CAST(coalesce(p.price, v.price) AS VARCHAR), p.given, v.given) AS price,
    replace(coalesce(nullif("Description", ''), "Short description"), '\n', ' ') AS description,
    replace(list_sort([{'n': -len(string_split(path, '>')), 'path': trim(path)} FOR path IN paths])[1].path,
        chr(1), ',') AS category,
    p.pictures[1] AS image, (p.pictures || coalesce(v.pictures, []))[2:21] AS images,
    CASE "In stock?" WHEN '0' THEN 0 ELSE greatest(coalesce(TRY_CAST("Stock" AS DOUBLE), 1), 1) END AS stock
FROM products p LEFT JOIN variations v ON product <> '' AND product IN ("SKU", 'id:' || "ID")
WHERE "Type" NOT LIKE 'variation%' AND "Published" = '1'
"""
_MAGENTO = r"""
WITH products AS (
    SELECT *, rowid AS line, TRY_CAST("price" AS DOUBLE) AS own_price,
        string_split("categories", ',') AS paths, string_split("additional_images", ',') AS pictures
    FROM rows WHERE "store_view_code" = ''
), variants AS (
    SELECT parent.line, min(child.own_price) AS price
    FROM (SELECT line, unnest(regexp_extract_all("configurable_variations", 'sku=([^,|]+)', 1)) AS child_sku
        FROM products) parent
    JOIN products child ON child."sku" = child_sku GROUP BY parent.line
)
SELECT "sku" AS item_id, "name" AS title,
    coalesce(CAST(coalesce(nullif(own_price, 0), v.price, own_price) AS VARCHAR), nullif(p."price", '')) AS price,
    "updated_at" AS updated_at, "additional_attributes" AS additional_attributes,
    coalesce(nullif("description", ''), "short_description") AS description,
    regexp_replace(list_sort([{'n': -len(string_split(path, '/')), 'path': path} FOR path IN paths])[1].path,
        '^Default Category/', '') AS category,
    ltrim("base_image", '/') AS image, [ltrim(picture, '/') FOR picture IN pictures][:20] AS images,
    CASE "is_in_stock" WHEN '0' THEN 0 ELSE greatest(coalesce(TRY_CAST("qty" AS DOUBLE), 1), 1) END AS stock
FROM products p LEFT JOIN variants v ON v.line = p.line
WHERE "product_online" = '1' AND "visibility" <> 'Not Visible Individually'
"""
KNOWN_SYSTEMS = (
    KnownSystem(
        "Shopify",
        frozenset({"Handle", "Body (HTML)", "Variant Price", "Image Src"}),
        _SHOPIFY,
        _SHOPIFY_NOTE.format("Variant Inventory Qty"),
    ),
    KnownSystem(
        "Shopify by Matrixify",
        frozenset({"Handle", "Body HTML", "Variant Price", "Image Src"}),
        _SHOPIFY.replace("Body (HTML)", "Body HTML")
        .replace("Product Category", "Category: Name")
        .replace("AS brand,", 'AS brand, max("Updated At") AS updated_at,'),
        _SHOPIFY_NOTE.format("Variant Inventory Qty"),
    ),
    KnownSystem(
        "Shopify",
        frozenset({"URL handle", "Price", "Product image URL", "Image position"}),
        re.sub(r'"([^"]+)"', lambda found: f'"{_SHOPIFY_TEMPLATE.get(found[1], found[1])}"', _SHOPIFY),
        _SHOPIFY_NOTE.format("Inventory quantity"),
    ),
    KnownSystem(
        "Wix",
        frozenset({"handleId", "fieldType", "productImageUrl", "inventory"}),
        _WIX,
        "a product's variants are one item, with the stock of all, which is unknown where it only says InStock; the "
        "first of several collections is taken; discounts and surcharges are not read; what is hidden is left out",
    ),
    KnownSystem(
        "WooCommerce",
        frozenset({"Regular price", "In stock?", "Images", "Parent"}),
        _WOO,
        "variations belong to their product, with the lowest price that can be read; of several categories the "
        "deepest is taken; what is not published is left out",
    ),
    KnownSystem(
        "Magento",
        frozenset({"sku", "store_view_code", "attribute_set_code", "base_image"}),
        _MAGENTO,
        'add base = "https://your-shop/media/catalog/product/" under [pictures]; special prices are not read; of '
        "several categories the deepest is taken; what is offline or not visible individually is left out",
    ),
)


def known_system(there: Collection[str]) -> KnownSystem | None:
    """The system whose export has these columns."""
    return next((system for system in KNOWN_SYSTEMS if system.signature <= set(there)), None)
