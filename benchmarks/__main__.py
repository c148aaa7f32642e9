"""Lists the benchmarks. Each is a module: `python -m benchmarks.drift --help` shows its options."""

from __future__ import annotations

import ast
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """The first sentence of each module that can be run, by its name."""
    found = {}
    for file in sorted(HERE.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if 'if __name__ == "__main__":' in source and file != Path(__file__):
            parts = file.relative_to(HERE.parent).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__main__")
            found[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def main() -> None:
    """Print the list."""
    table = Table("python -m …", "what it measures")
    for name, sentence in benchmarks().items():
        table.add_row(name, sentence)
    Console().print(table)


if __name__ == "__main__":
    main()
