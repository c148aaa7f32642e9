"""Links between pages lead to a heading that exists, and every page can be reached from the README."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("k8s/**/*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


def targets(page: Path) -> list[tuple[Path, str]]:
    """Each page that this one links to, with the anchor."""
    links = [link.partition("#") for link in LINK.findall(page.read_text()) if not link.startswith("http")]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in links]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_heading(page: Path) -> None:
    dead = [
        f"{target.name}#{anchor}"
        for target, anchor in targets(page)
        if anchor and target.suffix == ".md" and anchor not in anchors(target)
    ]
    assert not dead


def test_every_page_can_be_reached() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page.is_dir():
            ahead += sorted(page.glob("*.md"))
        elif page.suffix == ".md" and page not in reached:
            reached.add(page)
            ahead += [target for target, _ in targets(page)]
    assert not set(PAGES) - reached
