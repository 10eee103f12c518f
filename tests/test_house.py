"""The house itself: packaging, imports that run one way, a light front door, a README that is true."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import retina_fm

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("adapters", "indexes", "training", "weights")

FLOORS = {
    "errors": set(),
    "_vision": set(),
    "_io": {"errors"},
    "pictures": {"errors", "_io"},
    "network": {"errors", "_vision"},
    "metrics": {"errors", "_io", "_vision"},
    "vessels": {"network", "models"},
    "models": {"errors", "_io", "_vision", "pictures", "network"},
    "encoding": {"errors", "_io", "pictures", "models"},
    "adapters": {"errors", "_io", "_vision", "pictures", "network", "vessels", "models", "encoding"},
    "indexes": {"errors", "_io", "pictures", "models", "encoding"},
    "training": {"errors", "_io", "_vision", "pictures", "network", "metrics", "vessels", "models"},
    "evaluation": {
        *("errors", "_io", "_vision", "pictures", "metrics", "models", "encoding", "adapters", "indexes"),
        "training",  # its paired videos; training never looks back
    },
}
TOP = {"cli", "__init__"}


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1:] if parts[0] == "retina_fm" else parts


def sources() -> list[Path]:
    return [path for top in ("retina_fm", *BESIDE) for path in sorted((ROOT / top).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.split(".")[0] == "retina_fm"}
    return {name.split(".")[1] for name in found if "." in name}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    home = module_of(path)[0]
    if home in TOP:
        return
    known = {*FLOORS, *TOP}
    below = imported(path) & known
    assert below <= FLOORS.get(home, set()) | {home}, (
        f"{home} must not import {below - FLOORS.get(home, set())}"
    )


def test_every_package_is_listed_for_installation() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        "retina_fm." + ".".join(module_of(init)[:-1]) for init in sources() if init.name == "__init__.py"
    }
    assert listed == {name.rstrip(".") for name in found}


def test_there_are_no_symbolic_links() -> None:
    tracked = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert [line for line in tracked.stdout.splitlines() if line.startswith("120000")] == []


def fresh(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
    ).stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "faiss", "numpy", "PIL", "timm", "sklearn", "pyarrow", "scipy")
    found = fresh(f"import sys, retina_fm; print([m for m in {heavy} if m in sys.modules])")
    assert found.strip() == "[]"


def test_pictures_and_help_do_without_torch() -> None:
    found = fresh(
        "import sys, retina_fm.pictures, retina_fm.encoding.work\n"
        "from retina_fm.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "print([m for m in ('torch', 'faiss', 'timm') if m in sys.modules])"
    )
    assert found.strip() == "[]"


def test_public_names_resolve_and_unknown_ones_do_not() -> None:
    for name in retina_fm.__all__:
        assert getattr(retina_fm, name) is not None
    assert set(retina_fm.__all__) <= set(dir(retina_fm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        retina_fm.nothing  # noqa: B018


def test_the_readme_begins_with_two_commands_that_stand_alone() -> None:
    block = (ROOT / "README.md").read_text().split("```")[1]
    assert len([line for line in block.splitlines()[1:] if line.strip()]) == 2


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == retina_fm.__version__
