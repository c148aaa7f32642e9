"""Package: build a Bento from a model version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.deploy.bento_content import built_content
from immr.errors import DeployError
from immr.machine.progress_bar import elapsed
from immr.settings import query_of

if TYPE_CHECKING:
    from immr.recipes import Recipe
    from immr.types import ModelVersion
    from immr.wiring import Parts


@dataclass(frozen=True)
class Packaged:
    """A version's Bento, and what it can do."""

    bento: str  # its tag
    reused: bool  # the store had it already, with the same content
    embeds_words: bool  # else it finds only items that contain a searched word
    learned_ranker: bool  # else the hand-tuned weights of the recipe order its hits
    tells_exact: bool  # whether it has the rule that marks an exact match
    copied_to: str  # the object store; empty without one
    outdated: str = ""  # the version, if it is deployed with a Bento that this one replaces

    @property
    def sentence(self) -> str:
        """What the command prints."""
        lacks = [
            lack
            for lack, there in (
                ("no text encoder (words find only items that contain them)", self.embeds_words),
                ("no learned ranker (hand-tuned weights order its hits)", self.learned_ranker),
                ("no rule that marks exact matches", self.tells_exact),
            )
            if not there
        ]
        done = "is reused, because nothing has changed" if self.reused else "is built"
        copied = f" and copied to {self.copied_to}" if self.copied_to else ""
        without = f". It has {', '.join(lacks)}" if lacks else ""
        restart = (
            f". Running processes of {self.outdated} keep the earlier Bento until they restart, or until "
            f"`immr deploy --model {self.outdated}` replaces them"
        )
        return f"{self.bento} {done}{copied}{without}{restart if self.outdated else ''}"


def package(parts: Parts, version: ModelVersion, recipe: Recipe) -> Packaged:
    """Build the version's Bento: the query encoder in ONNX, without torch.

    A ranker needs the hand-tuned weights it was trained on, so these replace the recipe's. If IMMR_DEPLOY_URL
    names an object store as `storage`, the Bento is copied there.

    Raises:
        PackagingError: A file of the version is missing, BentoML fails, or the object store refuses the copy.
        RankingError: The version's ranker cannot be read.
        SettingsError: The application folder with `serving/` is not found.
    """
    from immr.evaluation.matches.rule import MATCH_RULE
    from immr.model.text_query_encoder import has_text_encoder
    from immr.packaging import bento
    from immr.packaging.application import application_folder
    from immr.packaging.upload import STORES, upload
    from immr.search.ranker import Ranker

    registry, bento_home = parts.registry, parts.settings.bento_home
    with elapsed(f"fetching {version.id}"):
        folder = registry.fetch(version, parts.settings.cache_dir)
    ranker = Ranker.read(folder)
    before = built_content(bento_home, bento.tag_of(version.id))
    with registry.attached(version, MATCH_RULE) as match_rule:
        tag = bento.build(
            version,
            folder,
            ranking=ranker.ranking if ranker else recipe.ranking,
            service_folder=application_folder() / "serving",
            bento_home=bento_home,
            match_rule=match_rule,
        )
    store = query_of(parts.settings.deploy_url).get("storage", "")
    copied_to = store if store.startswith(STORES) else ""
    if copied_to:
        upload(bento_home, tag, copied_to)
    reused = before is not None and before == built_content(bento_home, tag)
    return Packaged(
        tag,
        reused=reused,
        embeds_words=has_text_encoder(folder),
        learned_ranker=ranker is not None,
        tells_exact=match_rule is not None,
        copied_to=copied_to,
        outdated=version.id if before is not None and not reused and _is_deployed(parts, tag) else "",
    )


def _is_deployed(parts: Parts, tag: str) -> bool:
    try:
        return any(each.bento == tag for each in parts.deployer.current())
    except DeployError:  # packaging works without the cluster
        return False
