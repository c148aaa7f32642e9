"""What shops call the data contract's columns, in several languages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from difflib import SequenceMatcher, get_close_matches

_SIMILAR = 0.5
_ALIKE_CHARS = 5  # in a row that similar names share, or all of a shorter one: "series" is no price
_OF_AN_ITEM = ("title", "description", "category", "image", "price", "updated_at", "stock", "images")
_QUALIFIER = re.compile("^(product|item|article|produkt|artikel|producto|produit|prodotto)s?")
_Round = Callable[[str, Sequence[str]], str | None]
_NAMES = {  # best names first: `query` may hold the words of a search, whose id is in another column
    "item_id": "sku id productid itemid articlenumber artikelnummer artikelnr artnr artikelid produktnummer "
    "produktid handle variantsku productsku itemsku productnumber customlabel handleid reference ref gtin ean "
    "商品id 商品コード 商品番号",
    "title": "name productname itemname titel bezeichnung artikelbezeichnung artikelname produktname titre nom "
    "nombre titolo 商品名 タイトル",
    "description": "desc beschreibung body bodyhtml text langtext artikeltext kurzbeschreibung longtext "
    "longdescription fulldescription shortdescription summary descripcion descrizione 説明 商品説明",
    "category": "categories productcategory producttype googleproductcategory kategorie kategoriepfad warengruppe "
    "taxonomy categorypath categorytree breadcrumb department categoryname feedproducttype collection categorie "
    "categoria categoriesxyz type カテゴリ カテゴリー",
    "image": "imageurl imagelink imagesrc img baseimage mainimage mainimageurl productimage productimageurl "
    "productimagefile picurl hostedimageurls picture pictureurl photo photourl photofile foto upload bild bildurl "
    "hauptbild bilddatei imageurlsxyz imageweb s3key objectkey 画像 画像url 写真",
    "price": "listprice regularprice normalprice variantprice unitprice saleprice standardprice startprice "
    "pricegross pricetaxincl pricetaxincluded priceincltax priceinclvat sellingprice currentprice retailprice preis "
    "vk vkpreis vkbrutto bruttovk verkaufspreis bruttopreis preisbrutto prix precio prezzo pricetaxexcl "
    "pricetaxexcluded 価格 販売価格",
    "updated_at": "updated modified lastmodified modifiedat changedat datemodified geandert geandertam "
    "anderungsdatum aktualisiert aktualisiertam zuletztgeandert letzteanderung lastchange lastchanged lastupdate "
    "lastupdated lastmodifiedat modifieddate updateddate updatetime datemodifiedgmt stand 更新日 更新日時",
    "stock": "quantity qty stockquantity stocklevel currentstocklevel stockqty qtyonhand quantityonhand onhand "
    "inventory inventoryquantity variantinventoryqty bestand lagerbestand menge instock available availability "
    "stockstatus auflager lagernd verfugbar verfugbarkeit 在庫 在庫数",
    "images": "additionalimages additionalimagelink additionalimagelinks galleryimages imageurls imagelinks "
    "pictureurls photourls moreimages morepictures pictures photos gallery bilder weiterebilder zusatzbilder",
    "query_id": "searchid requestid sucheid suchid anfrageid anfragenummer id query search suche anfrage",
    "user_id": "userid customerid visitorid userpseudoid domainuserid anonymousid clientid sessionid kundennummer "
    "user customer visitor session kunde nutzer",
    "ts": "time timestamp eventtimestamp eventtime collectortstamp derivedtstamp datetime date createdat zeit "
    "zeitpunkt zeitstempel datum 日時",
    "position": "rank itemlistindex pos rang platz 順位",
    "clicked": "click isclick klick geklickt angeklickt",
    "ordered": "order bought purchased purchase conversion gekauft bestellt",
    "variant": "group bucket testgroup gruppe",
    "model_version": "model version modell",
}


def similar_columns(
    wanted: Sequence[str], there: Sequence[str], optional: Collection[str] = ()
) -> dict[str, str]:
    """For each wanted column the shop's column that has its name, a usual other name, or a similar one.

    Each of the shop's columns is used once; names that are the same go first. An optional column needs a usual
    name: a similar one, such as "Marke" for images, is more often something else.
    """

    def close(name: str, left: Sequence[str]) -> str | None:
        return None if name in optional else _close(name, left)

    return _matched(wanted, there, (_same, _usual, _qualified, close))


def usual_columns(name: str, there: Sequence[str]) -> list[str]:
    """The shop's columns that have this name or a usual other name of it, best first."""
    by_plain = {_plain(column): column for column in reversed(there)}
    return [by_plain[each] for each in (_plain(name), *_NAMES[name].split()) if each in by_plain]


def known_columns(wanted: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """The same without names that are only similar."""
    return _matched(wanted, there, (_same, _usual, _qualified))


def _matched(wanted: Sequence[str], there: Sequence[str], rounds: Sequence[_Round]) -> dict[str, str]:
    left = {_plain(name): name for name in reversed(there)}  # the first of equal names stays
    found: dict[str, str] = {}
    for round_of in rounds:
        for name in wanted:
            if name not in found and (match := round_of(name, list(left))):
                found[name] = left.pop(match)
    return found


def _same(name: str, left: Sequence[str]) -> str | None:
    return _plain(name) if _plain(name) in left else None


def _usual(name: str, left: Sequence[str]) -> str | None:
    others = [*_NAMES.get(name, "").split()]
    if name == "image":  # the first of several
        others += [f"{other}1" for other in (name, *others)]
    return next((other for other in others if other in left), None)


def _qualified(name: str, left: Sequence[str]) -> str | None:
    """A usual name behind a word for the item, as in `product_title`; ids have such names of their own."""
    if name not in _OF_AN_ITEM:
        return None
    usual = {_plain(name), *_NAMES[name].split()}
    return next((each for each in left if _QUALIFIER.sub("", each) in usual), None)


def _close(name: str, left: Sequence[str]) -> str | None:
    plain = _plain(name)
    alike = [other for other in left if _longest_in_both(plain, other) >= min(_ALIKE_CHARS, len(plain))]
    return next(iter(get_close_matches(plain, alike, n=1, cutoff=_SIMILAR)), None)


def _longest_in_both(a: str, b: str) -> int:
    return SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size


def _plain(name: str) -> str:
    """Lower case, without accents and signs."""
    decomposed = unicodedata.normalize("NFD", name.casefold())
    without = "".join(
        sign for sign in decomposed if unicodedata.category(sign) != "Mn" or sign in "\u3099\u309a"
    )
    return "".join(sign for sign in unicodedata.normalize("NFKC", without) if sign.isalnum())
