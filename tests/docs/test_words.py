"""The pages use the words of the glossary in docs/README.md, and not their synonyms."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)
SYNONYMS = {  # of the word in the glossary
    "test": r"(?<!MLflow )(?<!randomized )\bexperiments?\b(?! file)",
    "does not answer": r"\b(?:is|are|was|were) (?:unreachable|not reachable)\b|\bcannot be reached\b",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("word", SYNONYMS)
def test_a_page_has_one_word_for_one_thing(page: Path, word: str) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(SYNONYMS[word], text, re.IGNORECASE) == []
