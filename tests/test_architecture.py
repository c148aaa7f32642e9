"""The shape of the house: sizes, the layout of `src/immr/`, who may bootstrap, and how we write."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_FOLDERS = ("src", "serving", "dashboards", "demo", "pipelines", "components", "benchmarks")
LOOSE_MODULES = {"__init__", "types", "errors", "settings", "recipes", "wiring"}
ROOMS = {
    "alerts",
    "charts",
    "cli",
    "client",
    "cluster",
    "data",
    "datasets",
    "deploy",
    "doctor",
    "drift",
    "evaluation",
    "events",
    "experiment",
    "features",
    "governance",
    "index",
    "launch",
    "loop",
    "machine",
    "model",
    "packaging",
    "ranking",
    "readout",
    "registry",
    "search",
    "storage",
    "train",
}
ENTRY_POINTS = (
    "src/immr/cli/",
    "components/",
    "demo/",
    "serving/",
    "dashboards/",
    "pipelines/",
    "benchmarks/",
)
FILES_PER_FOLDER, LINES_PER_FILE, LINES_PER_FUNCTION = 16, 320, 60
TESTED_AS_A_WHOLE = (
    "tests/contracts/",  # the same cases on every adapter
    "tests/docs/",  # links of all pages
    "tests/e2e/",
    "tests/governance/test_sources.py",  # the same result wherever the tables are
    "tests/k8s/",
    "tests/pipelines/",  # components and pipelines, compiled and run by kfp
    "tests/serving/scenarios/",  # several processes, some of which fail
    "tests/cli/",
    "tests/train/test_host_reads.py",  # of a whole step
    "tests/train/test_on_a_gpu.py",  # the same
    "tests/test_architecture.py",
    "tests/test_docs.py",
    "tests/test_scheduling.py",  # how the tests themselves are distributed
)
TESTED_WITH_THEIR_VERB = "src/immr/cli/"  # by tests/loop
TESTED_ELSEWHERE = {
    # parts of an adapter, which its contract tests on each of its engines
    "src/immr/events/aggregates.py": "tests/contracts/test_events_contract.py",
    "src/immr/index/build.py": "tests/index/test_qdrant.py",
    "src/immr/index/collection.py": "tests/index/test_qdrant.py",
    "src/immr/index/engines/client.py": "tests/contracts/test_index_contract.py",
    "src/immr/index/engines/edge.py": "tests/contracts/test_index_contract.py",
    "src/immr/index/storages/folder_storage.py": "tests/contracts/test_index_contract.py",
    "src/immr/index/storages/server_storage.py": "tests/contracts/test_index_contract.py",
    "src/immr/events/postgres/queries.py": "tests/contracts/test_events_contract.py",
    "src/immr/index/engines/conditions.py": "tests/contracts/test_index_contract.py",
    "src/immr/launch/kubeflow/job_kind.py": "tests/launch/kubeflow/test_kubeflow_launcher.py",
    "src/immr/launch/kubeflow/operators.py": "tests/launch/kubeflow/test_kubeflow_launcher.py",
    "src/immr/launch/kubeflow/pods.py": "tests/launch/kubeflow/test_pytorchjob.py",
    # parts that make sense only together
    "src/immr/data/pictures/remote/public_network.py": "tests/data/pictures/test_picture_files.py",
    "src/immr/data/pictures/remote/requests.py": "tests/data/pictures/remote/test_downloads.py",
    "src/immr/deploy/bento_process.py": "tests/deploy/test_local.py",
    "src/immr/experiment/queue.py": "tests/experiment/test_definition.py",
    "src/immr/loop/experiment/running_test.py": "tests/loop/experiment/test_start.py",
    "src/immr/loop/items/request.py": "tests/loop/items/test_service.py",
    "src/immr/readout/formats/text.py": "tests/readout/formats/test_report.py",
    "src/immr/train/classifier/fused/exact_softmax.py": "tests/train/classifier/test_kernels.py",
    "src/immr/train/classifier/fused/cuda_graphs.py": "tests/train/classifier/fused/test_step.py",
    "src/immr/train/classifier/fused/rows.py": "tests/train/classifier/test_kernels.py",
    "src/immr/train/classifier/fused/softmax.py": "tests/train/classifier/test_kernels.py",
    "src/immr/train/classifier/kernels/rows.py": "tests/train/classifier/test_kernels.py",
    "src/immr/train/classifier/kernels/softmax.py": "tests/train/classifier/test_kernels.py",
    "src/immr/train/unread_losses.py": "tests/train/test_loop.py",
    "src/immr/client/answers.py": "tests/client/test_client.py",
    "src/immr/errors.py": "tests/client/test_client.py",
    "src/immr/index/bm25.py": "tests/contracts/test_index_contract.py",
    "src/immr/search/rank_fusion.py": "tests/search/test_searcher.py",
    "src/immr/data/contract.py": "tests/data/validation/test_tables.py",
    "src/immr/data/mapping/column_names.py": "tests/data/mapping/test_proposal.py",
    "src/immr/data/mapping/column_rule.py": "tests/data/mapping/test_shop_map.py",
    "src/immr/data/sources/locations.py": "tests/governance/test_sources.py",
    "src/immr/data/sources/warehouse.py": "tests/governance/test_sources.py",
    "src/immr/model/features/document_features.py": "tests/model/test_documents.py",
    "src/immr/model/model_recipe.py": "tests/test_recipes.py",
    "src/immr/readout/bots.py": "tests/readout/test_sums.py",
    "src/immr/readout/variant_health.py": "tests/readout/test_sums.py",
    "src/immr/train/classifier/collectives.py": "tests/train/classifier/test_sharded_classifier.py",
    "src/immr/train/export.py": "tests/model/test_query_encoder.py",
    "src/immr/train/inputs/features.py": "tests/train/test_stages.py",
    "src/immr/train/inputs/augmented_inputs.py": "tests/train/test_stages.py",
    "src/immr/train/inputs/tower_inputs.py": "tests/train/test_stages.py",
    "src/immr/train/optimization/adaptation.py": "tests/train/test_stages.py",
    "src/immr/types.py": "tests/model/test_documents.py",
}
STYLE = re.compile(
    r"\b(anew|told|goes on|is no (?:number|picture|text|probability)|lets? go of|comes along|where there is none"
    r"|of one's own|befalls|all the same)\b",
    re.IGNORECASE,
)
STYLE_WORDS_PER_THOUSAND_LINES = 0.5


@cache
def tracked() -> list[Path]:
    """Files of the checkout that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@cache
def sources() -> list[Path]:
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in SOURCE_FOLDERS
    ]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_a_folder_holds_one_subject() -> None:
    sizes = Counter(path.parent for path in sources())
    too_full = {name_of(folder): size for folder, size in sizes.items() if size > FILES_PER_FOLDER}
    assert not too_full


def test_a_file_fits_on_a_few_screens() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in sources()}
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_PER_FILE}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{name_of(path)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_a_function_fits_on_a_screen() -> None:
    lengths = dict(found for path in sources() for found in functions(path))
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_PER_FUNCTION}


def test_the_package_has_the_rooms_of_the_design() -> None:
    package = ROOT / "src" / "immr"
    assert {path.stem for path in package.glob("*.py")} == LOOSE_MODULES
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= ROOMS, f"a new folder belongs into docs and this list: {rooms - ROOMS}"


@pytest.mark.parametrize("room", ["serving", "src/immr/train", "src/immr/model"])
def test_large_rooms_have_rooms_of_their_own(room: str) -> None:
    assert [path for path in (ROOT / room).iterdir() if (path / "__init__.py").is_file()]


def has_logic(path: Path) -> bool:
    """Whether a function of the module has a body; ports, recipes and constants have none."""
    ports = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
        for inner in ast.walk(node)
    }
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and id(node) not in ports
        and any(not isinstance(line, ast.Expr) for line in node.body)
        for node in ast.walk(tree(path))
    )


def test_tests_mirror_the_package() -> None:
    """`src/immr/<room>/<module>.py` is tested by `tests/<room>/test_<module>.py`, also in several files."""
    modules = {
        name_of(path): f"tests/{name_of(path.parent).removeprefix('src/immr').strip('/')}/test_{path.stem}.py"
        for path in sources()
        if name_of(path).startswith("src/immr/")
        and not name_of(path).startswith(TESTED_WITH_THEIR_VERB)
        and path.stem not in ("__init__", "__main__")
    }
    tests = {name_of(path) for path in tracked() if path.name.startswith("test_") and path.suffix == ".py"}
    own = {name: test.replace("//", "/") for name, test in modules.items()}
    wanted = {name: test if test in tests else TESTED_ELSEWHERE.get(name, test) for name, test in own.items()}
    untested = {name: test for name, test in wanted.items() if test not in tests and has_logic(ROOT / name)}
    assert not untested, "write the test, or name it in TESTED_ELSEWHERE with the reason"
    starts = {test.removesuffix(".py") for test in own.values()}
    starts |= {f"tests/{name_of(path.parent)}/test_{path.stem}" for path in sources()}  # serving, demo, …
    folders = {path.parent for path in sources()}
    starts |= {
        f"tests/{name_of(folder.parent).removeprefix('src/immr').strip('/')}/test_{folder.name}"
        for folder in folders
    }
    homeless = [
        test
        for test in sorted(tests)
        if not test.startswith(TESTED_AS_A_WHOLE) and starts.isdisjoint(starts_of(test))
    ]
    assert not homeless, "name a test file after the module it tests, test_<module>[_<aspect>].py"


def starts_of(test: str) -> Iterator[str]:
    """`tests/a/test_b_c.py` is named after `tests/a/test_b_c` or `tests/a/test_b`."""
    name = test.removesuffix(".py")
    while name:
        yield name
        name = name.rpartition("_")[0]


@cache
def imports_at_run_time(path: Path) -> frozenset[str]:
    """Dotted names of imported modules and members, those under TYPE_CHECKING left out."""
    return frozenset(_imports_at_run_time(tree(path)))


def _imports_at_run_time(module: ast.Module) -> Iterator[str]:
    nodes = list(ast.walk(module))
    skipped = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_entry_points_bootstrap() -> None:
    """Everything else takes `Parts`; it may name the type, but not call `connect`."""
    offenders = [
        name_of(path)
        for path in sources()
        if not name_of(path).startswith(ENTRY_POINTS) and "immr.wiring.connect" in imports_at_run_time(path)
    ]
    assert not offenders


def test_settings_are_read_at_the_front_door() -> None:
    """`Settings()` reads the environment; only entry points may."""
    reading = re.compile(r"\bSettings\(\)")
    offenders = [
        name_of(path)
        for path in sources()
        if not name_of(path).startswith(ENTRY_POINTS) and reading.search(path.read_text())
    ]
    assert not offenders


def test_modules_import_each_other_in_one_direction() -> None:
    """No circles between modules, at import time or inside functions."""
    modules = {
        name_of(path)
        .removeprefix("src/")
        .removesuffix(".py")
        .removesuffix("/__init__")
        .replace("/", "."): path
        for path in sources()
    }
    edges: dict[str, set[str]] = defaultdict(set)
    for name, path in modules.items():
        for imported in imports_at_run_time(path):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                edges[name].add(target)
    assert not list(circles(edges))


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """A path for each back edge that a depth-first search meets."""
    done: set[str] = set()
    path: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        path.append(node)
        for target in sorted(edges.get(node, ())):
            if target in path:
                yield [*path[path.index(target) :], target]
            elif target not in done:
                yield from visit(target)
        path.pop()
        done.add(node)

    for node in sorted(edges):
        if node not in done:
            yield from visit(node)


def test_the_old_prose_does_not_come_back() -> None:
    suffixes = {".py", ".md", ".html", ".j2", ".yaml", ".js", ".toml"}
    prose = [path for path in tracked() if path.suffix in suffixes and "third-party" not in name_of(path)]
    prose.remove(Path(__file__))
    found: dict[str, list[str]] = {}
    lines = 0
    for path in prose:
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        if words := STYLE.findall(text):
            found[name_of(path)] = words
    count = sum(len(words) for words in found.values())
    assert count / lines * 1000 <= STYLE_WORDS_PER_THOUSAND_LINES, found
