"""What tells a Bento from an earlier one with the same tag."""

from __future__ import annotations

from pathlib import Path

CONTENT_LABEL = "immr.content"
"""The label of a Bento with the fingerprint of what it was built from."""


def built_content(bento_home: Path, bento: str) -> str | None:
    """Fingerprint of what a Bento was built from; None if the store does not have it or it has no label."""
    import yaml

    name, _, tag = bento.partition(":")
    try:
        described = yaml.safe_load((bento_home / "bentos" / name / tag / "bento.yaml").read_text())
    except FileNotFoundError:
        return None
    labels: dict[str, str] = (described or {}).get("labels") or {}
    return labels.get(CONTENT_LABEL)
