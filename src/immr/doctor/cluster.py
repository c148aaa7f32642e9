"""Checks of a cluster: operators, permissions, objects, claims, running pods."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from immr.cluster.api import own_namespace
from immr.cluster.retries import describe
from immr.doctor.finding import Finding
from immr.doctor.operators import OPERATORS, Operator, as_used
from immr.doctor.pipelines import PATH as _WORKFLOW_DEFAULTS
from immr.doctor.pipelines import REMEDY as _RETRIES_REMEDY
from immr.doctor.pipelines import retries_of
from immr.errors import ImmrError
from immr.launch.kubeflow.operators import KINDS, choose, served
from immr.launch.kubeflow.trainjob import RUNTIME, TrainJobs
from immr.settings import Settings, query_of

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_TIMEOUT_S = 10.0
_APPLY = "kubectl apply -k k8s/overlays/<overlay>"
_DOCS = "docs/kubernetes.md"
_NOT_ALLOWED = "no permission to read it"
_OLDEST, _OLDEST_WITH_IMAGES = (1, 32), (1, 33)  # required by KServe 0.20, and by images as volumes


# what pipeline steps call (k8s/base/accounts/pipeline-role.yaml): group, resource, subresource, verbs
PERMISSIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    *((kind.group, kind.plural, "", ("create", "get", "list", "watch", "patch", "delete")) for kind in KINDS),
    ("serving.kserve.io", "inferenceservices", "", ("create", "get", "list", "patch", "delete")),
    ("", "pods", "", ("list",)),
    ("", "events", "", ("list",)),
    ("", "pods", "log", ("get",)),
    ("", "services", "", ("get",)),
    ("", "configmaps", "", ("get", "patch")),
)


def examine_cluster(api: ApiClient, settings: Settings) -> list[Finding]:
    """Check the cluster of this pod, or of the kubeconfig outside one."""
    namespace = urlsplit(settings.launch_url).hostname or own_namespace()
    calls = _ApiCalls(api)
    server = calls.finding("Kubernetes", lambda: _server(calls), "point KUBECONFIG at a cluster that answers")
    if not server.ok:
        return [server]
    images = "storage=oci://" in settings.deploy_url
    oldest, part = (_OLDEST_WITH_IMAGES, "storage=oci://") if images else (_OLDEST, "KServe 0.20")
    if not _is_new_enough(server.found, oldest):
        server = replace(server, ok=False, remedy=f"upgrade: {part} needs {'.'.join(map(str, oldest))}")
    operator = query_of(settings.launch_url).get("operator", "")
    training = _training(calls, operator)
    return [
        server,
        training,
        *(_operator(calls, as_used(one, settings, training.found)) for one in OPERATORS),
        _retries(calls),
        *_permissions(calls, namespace, training.found),
        *_objects(calls, namespace, training.found),
        _claim(calls, namespace),
        *_endpoints(calls, namespace),
    ]


@dataclass(frozen=True)
class _ApiCalls:
    """API calls with a short timeout, so that a slow server does not hang the doctor."""

    api: ApiClient

    def get(self, path: str) -> dict[str, Any]:
        return self._ask(path, "GET", None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask(path, "POST", body)

    def _ask(self, path: str, method: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.call_api(
            path,
            method,
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=_TIMEOUT_S,
        )
        return answer

    def finding(self, what: str, question: Callable[[], str], remedy: str) -> Finding:
        """The result of a check as a finding; a refused call or an ImmrError makes it not ok."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return Finding(what, True, question(), remedy)
        except ApiException as error:
            if error.status == 404:
                return Finding(what, False, "not found", remedy)
            if error.status == 403:
                return Finding(what, False, _NOT_ALLOWED, f"use an account that may, or: {remedy}")
            return Finding(what, False, describe(error, "reading"), remedy)
        except (HTTPError, OSError) as error:
            silence = f"no answer in {_TIMEOUT_S:.0f} s ({type(error).__name__})"
            return Finding(what, False, silence, "check the API server: kubectl get --raw /readyz")
        except ImmrError as error:
            return Finding(what, False, str(error), remedy)


def _server(calls: _ApiCalls) -> str:
    return str(calls.get("/version")["gitVersion"])


def _is_new_enough(version: str, oldest: tuple[int, int]) -> bool:
    """Whether a version such as `v1.33.1-eks-4` is supported; other formats pass."""
    match = re.match(r"v(\d+)\.(\d+)", version)
    return match is None or (int(match[1]), int(match[2])) >= oldest


def _training(calls: _ApiCalls, operator: str) -> Finding:
    """Which operator runs training: the one of IMMR_LAUNCH_URL, else the first that is there."""

    def chosen() -> str:
        kind = choose(calls.api, operator)
        if kind not in (there := served(calls.api)):
            raise ImmrError(f"IMMR_LAUNCH_URL has operator={operator}, which this cluster does not have")
        others = [other.name for other in there if other is not kind]
        return kind.name + (f" (also there: {', '.join(others)})" if others else "")

    remedy = f"install the training operator 1.9 or Kubeflow Trainer 2.3 ({_DOCS})"
    return calls.finding("operator of training", chosen, remedy)


def _operator(calls: _ApiCalls, operator: Operator) -> Finding:
    version = f"{operator.group}/{operator.version}"

    def has_kinds() -> str:
        kinds = {one["name"] for one in calls.get(f"/apis/{version}")["resources"]}
        missing = [plural for plural in operator.plurals if plural not in kinds]
        if missing:
            raise ImmrError(f"{version} has no {', '.join(missing)}")
        return version

    what = f"{operator.name} ({', '.join(operator.plurals)})"
    remedy = operator.remedy or f"install {operator.name}, which serves {version} ({_DOCS})"
    finding = calls.finding(what, has_kinds, remedy)
    if not finding.ok and not operator.needed:
        return Finding(what, True, f"{finding.found}; only needed if an overlay uses it", "")
    return finding


def _retries(calls: _ApiCalls) -> Finding:
    what = "retries of Kubeflow Pipelines"
    finding = calls.finding(what, lambda: retries_of(calls.get(_WORKFLOW_DEFAULTS)), _RETRIES_REMEDY)
    if finding.found == _NOT_ALLOWED:  # a pod of another namespace
        return Finding(what, True, "not checked: this account may not read the namespace kubeflow", "")
    return finding


def _permissions(calls: _ApiCalls, namespace: str, training: str) -> Iterator[Finding]:
    unused = {kind.plural for kind in KINDS if not training.startswith(kind.name)}
    for group, resource, subresource, verbs in PERMISSIONS:
        if resource in unused:
            continue
        title = f"{resource}/{subresource}" if subresource else resource

        def may(
            group: str = group,
            resource: str = resource,
            subresource: str = subresource,
            verbs: Sequence[str] = verbs,
        ) -> str:
            attributes = {"namespace": namespace, "group": group, "resource": resource}
            attributes |= {"subresource": subresource} if subresource else {}
            attributes |= {"name": "immr-roles"} if resource == "configmaps" else {}
            refused = [verb for verb in verbs if not _may(calls, attributes | {"verb": verb})]
            if refused:
                raise ImmrError(f"not allowed: {', '.join(refused)}")
            return ", ".join(verbs)

        yield calls.finding(
            f"permission: {title} in {namespace}",
            may,
            f"bind this account to the Role immr-pipeline ({_APPLY})",
        )


def _may(calls: _ApiCalls, attributes: Mapping[str, str]) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": dict(attributes)},
    }
    answer = calls.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _objects(calls: _ApiCalls, namespace: str, training: str) -> Iterator[Finding]:
    core, kserve = f"/api/v1/namespaces/{namespace}", "/apis/serving.kserve.io/v1alpha1"
    trainer = f"/apis/{TrainJobs.group}/{TrainJobs.version}/namespaces/{namespace}/trainingruntimes/{RUNTIME}"
    component = f"add ../../components/trainer to an overlay with `namespace: {namespace}`, then {_APPLY}"
    key = (
        f"openssl rand 32 > token.key; kubectl -n {namespace} create secret generic immr-click-tokens "
        f"--from-file=token.key ({_DOCS})"
    )
    password = (
        f"kubectl -n {namespace} create secret generic immr-postgres --from-literal=password=$(openssl rand "
        f"-hex 24) ({_DOCS})"
    )
    runtime = [("runtime of TrainJobs", trainer, component)] if training.startswith(TrainJobs.name) else []
    for what, path, remedy in (
        *runtime,
        ("settings", f"{core}/configmaps/immr-settings", _APPLY),
        ("roles", f"{core}/configmaps/immr-roles", _APPLY),
        ("key of click tokens", f"{core}/secrets/immr-click-tokens", key),
        ("password of PostgreSQL", f"{core}/secrets/immr-postgres", password),
        ("runtime of Bentos", f"{kserve}/namespaces/{namespace}/servingruntimes/immr-bento", _APPLY),
    ):

        def there(path: str = path) -> str:
            return str(calls.get(path)["metadata"]["name"])

        finding = calls.finding(f"{what} in {namespace}", there, remedy)
        if "/secrets/" in path and finding.found == _NOT_ALLOWED:  # pods that need it would not have started
            finding = replace(
                finding, ok=True, found="not checked: this account may not read Secrets", remedy=""
            )
        yield finding


def _claim(calls: _ApiCalls, namespace: str) -> Finding:
    def bound() -> str:
        claim = calls.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/immr-home")
        phase, wanted = claim["status"]["phase"], claim["spec"].get("storageClassName")
        status = f"{phase}, {'/'.join(claim['spec']['accessModes'])}, class {wanted or '(default)'}"
        if phase != "Bound" and not _binds_later(calls, wanted):
            raise ImmrError(status)
        return status

    remedy = "set a storage class of this cluster in the overlay (kubectl get storageclass)"
    return calls.finding("claim immr-home", bound, remedy)


def _binds_later(calls: _ApiCalls, wanted: str | None) -> bool:
    """Whether this storage class creates volumes only when a pod needs them."""
    classes = calls.get("/apis/storage.k8s.io/v1/storageclasses")["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    fit = [
        one
        for one in classes
        if one["metadata"]["name"] == wanted
        or (wanted is None and one["metadata"].get("annotations", {}).get(default) == "true")
    ]
    return any(one.get("volumeBindingMode") == "WaitForFirstConsumer" for one in fit)


def _endpoints(calls: _ApiCalls, namespace: str) -> Iterator[Finding]:
    for service in ("mlflow", "qdrant", "gateway", "page"):

        def ready(service: str = service) -> str:
            path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            slices = calls.get(f"{path}?labelSelector=kubernetes.io/service-name%3D{service}")["items"]
            pods = [pod for one in slices for pod in one.get("endpoints") or []]
            count = sum(bool(pod.get("conditions", {}).get("ready")) for pod in pods)
            if not count:
                raise ImmrError(f"ready pods: 0 of {len(pods)}")
            return f"{count} ready"

        yield calls.finding(
            f"endpoints of {service}",
            ready,
            f"kubectl -n {namespace} describe pod -l app.kubernetes.io/part-of=immr, and read its events",
        )
