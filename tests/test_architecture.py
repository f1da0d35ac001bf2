"""The rules of the house, enforced: layers, sizes, names, tests beside code, a light import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "atomreel"
MODULES = sorted(PACKAGE.rglob("*.py"))
NO_TORCH = ("core", "read", "interpret", "track", "kinetics", "report", "prepare")
# Modules that are tested through another module's test, and why.
TESTED_ELSEWHERE = {
    "core/errors.py": "raised and checked wherever user errors are tested",
    "__main__.py": "every test that starts `python -m atomreel`",
}


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(PACKAGE).as_posix() for path in paths]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_layers() -> None:
    exe = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([exe, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_import_is_light() -> None:
    code = "import sys, atomreel; print(sorted(m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", names([p for p in MODULES if p.parent.name in NO_TORCH]))
def test_no_torch_below_the_networks(name: str) -> None:
    assert not {m for m in imports(PACKAGE / name) if m.split(".")[0] == "torch"}


@pytest.mark.parametrize("name", names(MODULES))
def test_file_and_function_sizes(name: str) -> None:
    text = (PACKAGE / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1})"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert not long, f"functions over 60 lines: {long}"


@pytest.mark.parametrize("name", names(MODULES))
def test_signatures(name: str) -> None:
    """At most three positional parameters; no **kwargs in public functions."""
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    homes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for home in homes for node in home.body):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        positional = [
            a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")
        ]
        assert len(positional) <= 3, f"{node.name}{positional}"
        assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg.arg}"


@pytest.mark.parametrize("name", names(MODULES))
def test_leaves_do_not_import_the_root(name: str) -> None:
    if name != "__init__.py":
        found = imports(PACKAGE / name)
        assert "atomreel" not in found and not any(m.startswith("atomreel.__") for m in found)


def test_no_drawers() -> None:
    drawers = {"utils.py", "helpers.py", "base.py", "misc.py", "common.py"}
    assert not [name for name in names(MODULES) if Path(name).name in drawers]


def test_every_module_has_its_test() -> None:
    missing = []
    for name in names(MODULES):
        path = Path(name)
        if path.name == "__init__.py" or name in TESTED_ELSEWHERE:
            continue
        if not (ROOT / "tests" / path.parent / f"test_{path.stem.lstrip('_')}.py").is_file():
            missing.append(name)
    assert not missing


def test_every_public_name_exists() -> None:
    import atomreel

    for name in atomreel.__all__:
        assert getattr(atomreel, name) is not None
    with pytest.raises(AttributeError):
        _ = atomreel.nonsense  # type: ignore[attr-defined]
