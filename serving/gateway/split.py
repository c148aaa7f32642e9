"""Routes each user to their variant, records what was shown, and falls back if the variant fails."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from immr.errors import ExperimentError
from immr.events.query_photos import PhotoStore
from immr.experiment.assignment import assign, group
from immr.experiment.context import Dimensions
from immr.experiment.definition import CHALLENGER, CHAMPION, PREVIEW, Experiment, Variant
from immr.experiment.file import load
from immr.storage.watched_file import WatchedFile
from immr.wiring import Parts
from serving.gateway.breaker import Attempt
from serving.gateway.interleaved import interleave
from serving.gateway.kept_photos import KeptPhotos
from serving.gateway.shadow import Shadow
from serving.gateway.variants import INCONCLUSIVE, VariantAnswer, VariantDownError, Variants
from serving.process import tracing
from serving.process.garbage import freeze_loaded_objects
from serving.process.logs import SEARCHES
from serving.process.metrics import Metrics
from serving.process.recording import Recorder
from serving.wire.forms import SearchForm
from serving.wire.problems import ProblemError, unavailable
from serving.wire.schemas import SearchBody
from serving.wire.search import paging
from serving.wire.user import user_headers

searches = logging.getLogger(SEARCHES)

TIMEOUT_S = 3.0
MAX_IN_PROGRESS = 256
"""More than a Bento's, so that searches waiting for a slow variant do not crowd out the others."""
_ALL_DOWN = "No variant answers now. Try again in a moment."


@dataclass(frozen=True, slots=True)
class _Routed:
    """An answer, and how it came about."""

    body: SearchBody
    is_fallback: bool = False  # another variant than the user's own answered
    versions: tuple[str, ...] = ()  # the model version of each hit of an interleaved answer


class Gateway:
    """Assignment, fallback, recording. `start` and `stop` belong to the server's event loop."""

    def __init__(
        self, parts: Parts, timeout_s: float = TIMEOUT_S, max_in_progress: int = MAX_IN_PROGRESS
    ) -> None:
        """Opens the recorder; the experiment file is read on the first search.

        Args:
            parts: Has the event log and the token keys; its settings name experiment file and photos.
            timeout_s: How long a variant may take before the champion is asked instead.
            max_in_progress: More searches are refused with 429.
        """
        self.max_in_progress = max_in_progress
        self.metrics = Metrics()
        self.keys = parts.token_keys
        self.dimensions = Dimensions.parse(parts.settings.context)
        self.recorder = Recorder(parts, self.metrics)
        self._variants = Variants(timeout_s, self.metrics)
        self._shadow: Shadow | None = None
        photos = PhotoStore(parts.settings.photos_dir, timedelta(days=parts.settings.keep_photos_days))
        photos.forget_expired()  # even if new photos are no longer kept
        self._photos = KeptPhotos(photos, self.metrics) if parts.settings.keep_photos else None
        self._experiment_file = parts.settings.experiment_file
        self._watcher: WatchedFile[Experiment] | None = None
        self._watcher_lock = threading.Lock()
        self._seen: Experiment | None = None
        self.metrics.watch_variants(self._open_breakers)
        self.metrics.experiment_wrong.set_function(self._is_file_wrong)

    async def start(self) -> None:
        """Opens the connections to the variants."""
        await self._variants.start()
        self._shadow = Shadow(self._variants, self.metrics)
        await self._shadow.start()
        freeze_loaded_objects()

    async def stop(self) -> None:
        """Closes the connections, delivers the waiting events and keeps the waiting photos."""
        if self._shadow is not None:
            await self._shadow.stop()
        await self._variants.stop()
        await self.recorder.close()
        if self._photos is not None:
            await self._photos.close()

    def experiment(self) -> Experiment:
        """The experiment in its file; the previous one while the file is invalid.

        Raises:
            ProblemError: 503 while there is none.
        """
        try:
            experiment = self._watched().current()
        except ExperimentError as error:
            self.metrics.errors.labels("experiment").inc()
            raise unavailable(str(error)) from error
        if experiment is not self._seen:
            self._variants.keep_only(experiment.variants)
            self._seen = experiment
        return experiment

    def _watched(self) -> WatchedFile[Experiment]:
        """Thread-safe."""
        with self._watcher_lock:
            self._watcher = self._watcher or WatchedFile(self._experiment_file, load, "experiment")
        return self._watcher

    def _open_breakers(self) -> dict[str, bool]:
        """Whether the breaker of each variant is open, including a challenger in shadow mode."""
        try:
            experiment = self._watched().current()
        except ExperimentError:
            return {}
        asked = [variant for variant in experiment.variants if not variant.ended]
        variants = [experiment.champion] if experiment.state == "stopped" else asked
        return {variant.name: self._variants.is_open(variant) for variant in variants}

    def _is_file_wrong(self) -> bool:
        """Whether the experiment file is invalid; a missing one is not."""
        try:
            watched = self._watched()
        except ExperimentError:
            return self._experiment_file.exists()
        watched.current()
        return bool(watched.wrong)

    async def search(self, form: SearchForm, user_id: str, preview: bool, context: str = "") -> SearchBody:
        """Answers with the user's variant, or another if that fails; records unless it is a preview.

        Args:
            form: The search.
            user_id: Who searches.
            preview: If true, the search is not recorded.
            context: As the event log stores it.

        Raises:
            ProblemError: the variant refuses the request; 503 if no variant answers.
        """
        start = time.perf_counter()
        experiment = self.experiment()
        assigned = assign(experiment, user_id).name
        form.headers.update(user_headers(user_id))
        label = PREVIEW if preview else group(experiment, user_id)
        if experiment.kind == "interleave" and assigned == CHALLENGER and not form.asks_for_page:
            answer = await self._both_answers(experiment, form, label)
        else:
            answer = await self._first_answer(experiment, assigned, form, label)
        body = answer.body
        body.took_ms = 1000 * (time.perf_counter() - start)
        if not preview:
            self._record(experiment, answer, form, user_id, context)
        for part in body.degraded:
            self.metrics.degraded.labels(part).inc()
        self.metrics.observe({"total": 1000 * (time.perf_counter() - start)})
        _log_search(answer)
        return body

    async def picture(self, item_id: str, headers: Mapping[str, str]) -> VariantAnswer:
        """An item's picture, from the first variant that has it; `headers` are forwarded.

        Raises:
            ProblemError: 404 if no variant has it, 503 if none answers.
        """
        return await self._from_any(lambda variant: self._variants.picture(variant, item_id, headers))

    async def regions(self, form: SearchForm) -> VariantAnswer:
        """The parts of a photo to search for, from the first variant that answers; raises its refusal, or 503."""
        return await self._from_any(lambda variant: self._variants.regions(variant, form))

    async def _from_any(self, request: Callable[[Variant], Awaitable[VariantAnswer]]) -> VariantAnswer:
        problem: ProblemError | None = None
        for variant in sorted(_in_order(self.experiment(), CHAMPION), key=self._variants.is_open):
            try:
                return await request(variant)
            except VariantDownError:
                continue
            except ProblemError as error:
                if error.problem.status not in (404, *INCONCLUSIVE):  # it is the request's fault
                    raise
                problem = error
        raise problem or unavailable(_ALL_DOWN)

    async def readiness(self) -> dict[str, bool]:
        """Which of the variants that may answer shoppers are ready."""
        variants = _in_order(self.experiment(), CHAMPION)
        states = await asyncio.gather(*(self._variants.is_ready(each) for each in variants))
        return {variant.name: state for variant, state in zip(variants, states, strict=True)}

    async def _both_answers(self, experiment: Experiment, form: SearchForm, label: str) -> _Routed:
        """Both versions' hits in one answer; if only one version answers, its hits alone."""

        async def one(variant: Variant) -> SearchBody | None:
            if (attempt := self._variants.admit(variant)) is None:
                return None
            try:
                return await self._variants.search(variant, form, label, attempt)
            except ProblemError as error:
                if error.problem.status not in INCONCLUSIVE:
                    raise
                return None

        found = await asyncio.gather(*(one(variant) for variant in experiment.variants))
        answers = {
            variant.name: body for variant, body in zip(experiment.variants, found, strict=True) if body
        }
        if len(answers) == 2:
            body, versions = interleave(answers, label, self.keys[0], datetime.now(UTC))
            return _Routed(body, versions=versions)
        if answers:
            [(name, body)] = answers.items()
            return _Routed(body, is_fallback=name != CHALLENGER)
        return await self._first_answer(experiment, CHALLENGER, form, label)

    async def _first_answer(
        self, experiment: Experiment, assigned: str, form: SearchForm, label: str
    ) -> _Routed:
        """The answer of the first variant that has one."""
        refusals: list[ProblemError] = []
        begun_by = paging.version_of(form.values["page"], self.keys) if form.asks_for_page else None
        while True:
            asked = False
            for variant in (variants := _in_order(experiment, assigned, begun_by)):
                if attempt := self._variants.admit(variant):
                    asked = True
                    if body := await self._answer(variant, form, label, refusals, attempt):
                        return _Routed(body, variant.name != assigned)
            # if every breaker is open, asking is no worse than refusing
            for variant in variants if not asked else []:
                if body := await self._answer(variant, form, label, refusals):
                    return _Routed(body, variant.name != assigned)
            before, experiment = experiment, self.experiment()
            if experiment == before:
                break
            # the variants were replaced meanwhile: ask the new ones
        if refusals:
            raise refusals[0]
        self.metrics.errors.labels("all_down").inc()
        raise unavailable(_ALL_DOWN)

    async def _answer(
        self,
        variant: Variant,
        form: SearchForm,
        label: str,
        refusals: list[ProblemError],
        attempt: Attempt | None = None,
    ) -> SearchBody | None:
        """A variant's answer, or None. Collects a 401, because another variant may know the key."""
        try:
            return await self._variants.search(variant, form, label, attempt)
        except ProblemError as error:
            if error.problem.status != 401:
                raise
            refusals.append(error)
            return None

    def _record(
        self,
        experiment: Experiment,
        answer: _Routed,
        form: SearchForm,
        user_id: str,
        context: str,
    ) -> None:
        start = time.perf_counter()
        now, body = datetime.now(UTC), answer.body
        if not self.recorder.record_search(body, user_id, now, answer.is_fallback, answer.versions, context):
            body.degraded.append("events")
        self.metrics.observe({"record": 1000 * (time.perf_counter() - start)})
        # a page continues the champion's answer: a challenger would refuse it
        in_shadow = experiment.challengers if experiment.state == "shadow" and not form.asks_for_page else ()
        for challenger in in_shadow:
            if self._shadow is not None:
                self._shadow.copy(challenger, form, body.query_id, [hit.item_id for hit in body.hits])
        if self._photos is not None and form.is_photo_alone and form.photos[0]:
            self._photos.keep(body.query_id, bytes(form.photos[0]))


def _in_order(experiment: Experiment, first: str, begun_by: str | None = None) -> list[Variant]:
    """Variants that may answer shoppers: the one named `first`, then the champion, then any other.

    A page goes only to the version that began it, because any other would refuse it for good; to all of them if
    that version has left. A challenger that is stopped, in shadow or out of the test never answers, even if the
    champion fails.
    """
    answering: Sequence[Variant] = [experiment.champion]
    if experiment.state == "running":
        answering = [variant for variant in experiment.variants if not variant.ended]
    able = [variant for variant in answering if variant.model_version == begun_by] or answering
    return sorted(able, key=lambda each: (each.name != first, each.name != CHAMPION))


def _log_search(answer: _Routed) -> None:
    body = answer.body
    fields: dict[str, str | float | bool] = {
        "query_id": body.query_id,
        "variant": body.variant,
        "model_version": body.model_version,
        "took_ms": round(body.took_ms, 1),
        "fallback": answer.is_fallback,
    }
    tracing.note(**fields)
    searches.info("answered", extra={"fields": {**fields, "hits": len(body.hits), "degraded": body.degraded}})
