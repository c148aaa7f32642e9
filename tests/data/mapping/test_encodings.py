"""Encodings by their bytes: what is not recognized is Windows-1252, and its words are shown."""

import pytest

from immr.data.mapping.encodings import encoding_of, words_in

HEADER = "item_id,title,description\n"


def written(text: str, encoding: str) -> bytes:
    return f"{HEADER}1,{text},plain words\n".encode(encoding)


@pytest.mark.parametrize(
    ("encoding", "texts"),
    [
        (
            "cp1252",
            ["Käse", "Grüße, Ärger, Übung", "naïve café à la crème", "SÜSSWAREN ÄPFEL", "smörgås 5 €"],
        ),
        ("cp1250", ["žluťoučký kůň", "ręcznie robiona miska i łyżka na każdy posiłek"]),
        ("cp932", ["りんごジュース", "牛乳とパン", "紳士靴 メンズ スニーカー"]),
        ("euc_jp", ["りんごジュース", "牛乳とパン", "紳士靴 メンズ スニーカー"]),
        ("cp949", ["우유 사과", "남성용 운동화 280mm"]),
        ("gb18030", ["牛奶和苹果的描述", "新鲜苹果，红富士。", "男士跑步鞋"]),
        ("big5", ["牛奶蘋果", "新鮮蘋果，紅富士"]),
        ("cp1251", ["Молоко цельное", "Яблоко Golden 1кг"]),
    ],
)
def test_scripts_are_recognized(encoding: str, texts: list[str]) -> None:
    for text in texts:
        assert encoding_of(written(text, encoding)) == encoding, text
        assert encoding_of(written(text, "utf-8")) == ""
    assert encoding_of(written(texts[0], "utf-16")) == ""


def test_a_character_that_is_cut_off_changes_nothing() -> None:
    content = "りんごジュース".encode("cp932") * 10
    assert encoding_of(content[:-1]) == "cp932"


def test_the_first_words_beyond_ascii() -> None:
    content = written("Käse, Brot und Möhren; Käse", "cp1252")
    assert words_in(content, "cp1252") == "Käse, Möhren"
    assert words_in(content, "mac_roman") != "Käse, Möhren"
