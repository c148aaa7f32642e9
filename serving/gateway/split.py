"""The A/B split: every user gets one variant, whose answer is recorded; another answers for it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from immr.errors import ExperimentError
from immr.events.photos import PhotoStore
from immr.events.query_ids import user_key
from immr.experiment.assignment import assign
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment, Variant, load
from immr.settings import Settings
from immr.storage.watched_file import WatchedFile
from immr.wiring import connect
from serving.gateway.interleaved import interleaved
from serving.gateway.shadow import Shadow
from serving.gateway.variants import SAYS_LITTLE, VariantAnswer, VariantDownError, Variants
from serving.process import tracing
from serving.process.garbage import spare_what_is_loaded
from serving.process.logs import SEARCHES
from serving.process.metrics import Metrics
from serving.process.recording import Recorder
from serving.wire import paging
from serving.wire.forms import SearchForm
from serving.wire.problems import ProblemError, unavailable
from serving.wire.schemas import PREVIEW, USER_KEY_HEADER, SearchBody

log = logging.getLogger(__name__)
searches = logging.getLogger(SEARCHES)

TIMEOUT_S = 3.0
MAX_UNDER_WAY = 256  # more than a Bento's: whoever waits for a slow variant must not keep out the others
_NO_ONE = "no variant answers now: try again in a moment"


class Gateway:
    """Assignment, fallback, recording. `start` and `stop` belong to the server's event loop."""

    def __init__(
        self, settings: Settings, timeout_s: float = TIMEOUT_S, max_under_way: int = MAX_UNDER_WAY
    ) -> None:
        """`timeout_s` is how long a variant may take before the champion is asked instead.

        Over `max_under_way` searches at once are refused with 429.
        """
        self.max_under_way = max_under_way
        self.metrics = Metrics()
        self.keys = connect(settings).token_keys
        self.recorder = Recorder(settings, self.metrics)
        self._variants = Variants(timeout_s, self.metrics)
        self._shadow: Shadow | None = None
        photos = PhotoStore(settings.photos_dir, timedelta(days=settings.keep_photos_days))
        photos.forget_expired()  # also if no new ones are kept
        self._photos = photos if settings.keep_photos else None
        self._experiment_file = settings.experiment_file
        self._watcher: WatchedFile[Experiment] | None = None
        self._watcher_lock = threading.Lock()
        self._seen: Experiment | None = None
        self.metrics.watch_variants(self._left_alone)
        self.metrics.experiment_wrong.set_function(self._is_file_wrong)

    async def start(self) -> None:
        """Open the connection pool."""
        await self._variants.start()
        self._shadow = Shadow(self._variants, self.metrics)
        await self._shadow.start()
        spare_what_is_loaded()

    async def stop(self) -> None:
        """Write down what waits, then close."""
        if self._shadow is not None:
            await self._shadow.stop()
        await self._variants.stop()
        await self.recorder.close()

    def experiment(self) -> Experiment:
        """The experiment as its file has it now; the one before where the file is wrong.

        Raises:
            ProblemError: 503 while there is no valid one.
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
        """Safe in any thread."""
        with self._watcher_lock:
            self._watcher = self._watcher or WatchedFile(self._experiment_file, load, "experiment")
        return self._watcher

    def _left_alone(self) -> dict[str, bool]:
        """Of each variant that is asked, shown or not."""
        try:
            experiment = self._watched().current()
        except ExperimentError:
            return {}
        asked = [experiment.champion] if experiment.state == "stopped" else experiment.variants
        return {variant.name: self._variants.is_left_alone(variant) for variant in asked}

    def _is_file_wrong(self) -> bool:
        """Where there is none yet, nothing is wrong."""
        try:
            watched = self._watched()
        except ExperimentError:
            return self._experiment_file.exists()
        watched.current()
        return bool(watched.wrong)

    async def search(self, form: SearchForm, user_id: str, preview: bool) -> SearchBody:
        """Answer by the user's variant, or by another where that one cannot; record unless it is a preview.

        Raises:
            ProblemError: what the variant finds wrong with the request; 503 where no variant answers.
        """
        start = time.perf_counter()
        experiment = self.experiment()
        assigned = assign(experiment, user_id).name
        form.headers[USER_KEY_HEADER] = user_key(user_id)
        label = PREVIEW if preview else assigned
        versions: tuple[str, ...] = ()
        if experiment.kind == "interleave" and assigned == CHALLENGER and not form.asks_for_page:
            body, fallback, versions = await self._both_answers(experiment, form, label)
        else:
            body, fallback = await self._first_answer(experiment, assigned, form, label)
        body.took_ms = 1000 * (time.perf_counter() - start)
        if not preview:
            await self._record(experiment, body, form, user_id, fallback, versions)
        for part in body.degraded:
            self.metrics.degraded.labels(part).inc()
        self.metrics.observe({"total": 1000 * (time.perf_counter() - start)})
        _tell(body, fallback)
        return body

    async def picture(self, item_id: str, headers: Mapping[str, str]) -> VariantAnswer:
        """An item's picture, from the first variant that has it; `headers` go on to it.

        Raises:
            ProblemError: 404 where none has it, 503 where no variant answers.
        """
        path = f"/v1/items/{quote(item_id, safe='')}/image"
        experiment = self.experiment()
        problem: ProblemError | None = None
        for variant in sorted(_in_order(experiment, CHAMPION), key=self._variants.is_left_alone):
            try:
                return await self._variants.picture(variant, path, headers)
            except VariantDownError:
                continue
            except ProblemError as error:
                problem = error
        raise problem or unavailable(_NO_ONE)

    async def readiness(self) -> dict[str, bool]:
        """Which of the variants that may answer shoppers are ready."""
        variants = _in_order(self.experiment(), CHAMPION)
        states = await asyncio.gather(*(self._variants.is_ready(each) for each in variants))
        return {variant.name: state for variant, state in zip(variants, states, strict=True)}

    async def _both_answers(
        self, experiment: Experiment, form: SearchForm, label: str
    ) -> tuple[SearchBody, bool, tuple[str, ...]]:
        """Both versions' hits in one answer, and whose each is; where only one of them answers, its own."""

        async def one(variant: Variant) -> SearchBody | None:
            if not self._variants.allows(variant):
                return None
            try:
                return await self._variants.search(variant, form, label)
            except ProblemError as error:
                if error.problem.status not in SAYS_LITTLE:
                    raise
                return None

        found = await asyncio.gather(*(one(variant) for variant in experiment.variants))
        answers = {
            variant.name: body for variant, body in zip(experiment.variants, found, strict=True) if body
        }
        if len(answers) == 2:
            body, versions = interleaved(answers, label, self.keys[0], datetime.now(UTC))
            return body, False, versions
        if answers:
            [(name, body)] = answers.items()
            return body, name != CHALLENGER, ()
        return *await self._first_answer(experiment, CHALLENGER, form, label), ()

    async def _first_answer(
        self, experiment: Experiment, assigned: str, form: SearchForm, label: str
    ) -> tuple[SearchBody, bool]:
        """The first variant's that has one, and whether that was not the assigned one."""
        refusals: list[ProblemError] = []
        begun_by = paging.version_of(form.values["page"], self.keys) if form.asks_for_page else None
        while True:
            asked = False
            for variant in (variants := _in_order(experiment, assigned, begun_by)):
                if self._variants.allows(variant):
                    asked = True
                    if body := await self._known(variant, form, label, refusals):
                        return body, variant.name != assigned
            # where every one is left alone, asking is no worse than refusing
            for variant in variants if not asked else []:
                if body := await self._known(variant, form, label, refusals):
                    return body, variant.name != assigned
            before, experiment = experiment, self.experiment()
            if experiment == before:
                break
            # they were replaced while we asked: ask those that are there now
        if refusals:
            raise refusals[0]
        self.metrics.errors.labels("all_down").inc()
        raise unavailable(_NO_ONE)

    async def _known(
        self, variant: Variant, form: SearchForm, label: str, refusals: list[ProblemError]
    ) -> SearchBody | None:
        """Its answer; None where it has none, or does not know the caller's key, which another may know."""
        try:
            return await self._variants.search(variant, form, label)
        except ProblemError as error:
            if error.problem.status != 401:
                raise
            refusals.append(error)
            return None

    async def _record(
        self,
        experiment: Experiment,
        body: SearchBody,
        form: SearchForm,
        user_id: str,
        fallback: bool,
        versions: tuple[str, ...],
    ) -> None:
        start = time.perf_counter()
        if not self.recorder.search(body, user_id, datetime.now(UTC), fallback, versions):
            body.degraded.append("events")
        self.metrics.observe({"record": 1000 * (time.perf_counter() - start)})
        # a page goes on with the champion's answer: the challenger would have to refuse it
        in_shadow = experiment.challenger if experiment.state == "shadow" and not form.asks_for_page else None
        if in_shadow and self._shadow:
            shown = [hit.item_id for hit in body.hits]
            self._shadow.copy(in_shadow, form, body.query_id, shown)
        if self._photos is not None and form.photo:
            await asyncio.to_thread(self._keep, self._photos, body.query_id, bytes(form.photo))

    def _keep(self, photos: PhotoStore, query_id: str, photo: bytes) -> None:
        try:
            photos.keep(query_id, photo)
        except OSError as error:
            log.error("a photo was not kept: %s", error)
            self.metrics.errors.labels("photos").inc()


def _in_order(experiment: Experiment, first: str, begun_by: str | None = None) -> list[Variant]:
    """Who may answer shoppers: the variant of that name, then the champion, then any other.

    Before them all comes the version that began what a page goes on with, for no other can.
    A challenger that is stopped or in shadow never answers, whoever else fails.
    """
    answering = experiment.variants if experiment.state == "running" else [experiment.champion]
    return sorted(
        answering,
        key=lambda each: (each.model_version != begun_by, each.name != first, each.name != CHAMPION),
    )


def _tell(body: SearchBody, fallback: bool) -> None:
    said: dict[str, str | float | bool] = {
        "query_id": body.query_id,
        "variant": body.variant,
        "model_version": body.model_version,
        "took_ms": round(body.took_ms, 1),
        "fallback": fallback,
    }
    tracing.note(**said)
    searches.info("answered", extra={"said": {**said, "hits": len(body.hits), "degraded": body.degraded}})
