"""The house itself: packaging, imports that run one way, a light front door, a README that is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import tomllib

import retina_fm

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("adapters", "indexes", "training", "weights")

# When an import runs: never, for it is for the type checker; once a function runs; when the module is loaded.
Kind = Literal["typing", "lazy", "top"]


def plan() -> dict[str, list[str]]:
    """The rooms of the table in CONTRIBUTING.md, from the ground up, each with those that it stands on."""
    return {row[0].strip("`"): re.findall(r"`([\w.]+)`", row[2]) for row in table("Plan")}


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of CONTRIBUTING.md, without its head."""
    _, _, section = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {heading}\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def module_of(path: Path) -> str:
    """A module's name after ``retina_fm.``; empty for the front door."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "retina_fm" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[Path]:
    return [path for top in ("retina_fm", *BESIDE) for path in sorted((ROOT / top).rglob("*.py"))]


TREES = {module_of(path): ast.parse(path.read_text()) for path in sources()}
PACKAGES = {module_of(path) for path in sources() if path.name == "__init__.py"}


def lazy_names(face: str) -> dict[str, str]:
    """What a face loads on first use, and from where."""
    for node in TREES[face].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            homes: dict[str, str] = ast.literal_eval(node.value)
            return {name: home.partition(".")[2] for name, home in homes.items()}
    return {}


FACES = {package: lazy_names(package) for package in PACKAGES}


def statements(node: ast.AST, kind: Kind = "top") -> Iterator[tuple[ast.AST, Kind]]:
    """Every node below, and when it runs."""
    for child in ast.iter_child_nodes(node):
        below = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and kind == "top":
            below = "lazy"
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            below = "typing"
        yield child, below
        yield from statements(child, below)


def imported(tree: ast.AST) -> Iterator[tuple[str, Kind]]:
    """The modules of this project that a module imports, faces seen through."""
    for node, kind in statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "retina_fm":
                    yield alias.name.partition(".")[2], kind
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "retina_fm":
            home = (node.module or "").partition(".")[2]
            for alias in node.names:
                whole = f"{home}.{alias.name}".lstrip(".")
                yield (whole if whole in TREES else home), kind
                while alias.name in FACES.get(home, {}):
                    home = FACES[home][alias.name]
                    yield home, kind


def imports() -> dict[str, dict[str, Kind]]:
    """Who imports whom; of several ways, the earliest."""
    order: tuple[Kind, ...] = ("typing", "lazy", "top")
    found: dict[str, dict[str, Kind]] = {}
    for module, tree in TREES.items():
        mine = found.setdefault(module, {})
        for other, kind in imported(tree):
            assert other in TREES, f"{module} imports {other}, which is not there"
            if other != module:
                mine[other] = max(kind, mine.get(other, kind), key=order.index)
    return found


def room_of(module: str, rooms: Iterable[str]) -> str:
    inside = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return max(inside, key=len)


def closure(rooms: dict[str, list[str]]) -> dict[str, set[str]]:
    """Each room with all that it may import: what it stands on, all the way down, and its own rooms."""
    below: dict[str, set[str]] = {}
    for room, floors in rooms.items():
        inner = [other for other in below if other.startswith(f"{room}.")]
        below[room] = {*floors, *inner}.union(*(below[other] for other in [*floors, *inner]))
    return below


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules each of which is reached from each other one."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        reached[start], waiting = set(), [start]
        while waiting:
            for other in graph[waiting.pop()] - reached[start]:
                reached[start].add(other)
                waiting.append(other)
    return {frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]}


def test_the_plan_shows_every_room_and_none_that_is_not_there() -> None:
    single = {name for name in TREES if name and "." not in name}
    assert set(plan()) == (PACKAGES | single) - {""}


def test_the_plan_is_read_from_the_ground_up() -> None:
    above: set[str] = set()
    for room, floors in plan().items():
        assert set(floors) <= above, f"{room} stands on {set(floors) - above}, which come later"
        above.add(room)


def test_every_change_of_the_guide_begins_at_a_place_that_is_there() -> None:
    rows = table("Where a change belongs")
    assert len(rows) >= 10
    for change, first, then in rows:
        assert re.findall(r"`([\w.]+)`", first), f"{change} begins nowhere"
        for name in re.findall(r"`([\w.]+\w)`", f"{first} {then}"):
            if name not in ("add", "run"):
                assert is_there(name), f"{change}: {name} is not there"


def is_there(name: str) -> bool:
    """Whether a module, or what a module defines, has this name after ``retina_fm.``."""
    module, _, inside = name.rpartition(".")
    return name in TREES or inside in defined(TREES.get(module, ast.Module([], [])))


def defined(tree: ast.Module) -> set[str]:
    """Functions, classes and values at the top of a module."""
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_imports_run_down_the_floors() -> None:
    rooms = plan()
    below = closure(rooms)
    found = set()
    for module, others in imports().items():
        for other in others:
            if module and other and not fits(room_of(module, rooms), room_of(other, rooms), below):
                found.add((module, other))
    assert found == set(), "these imports run up"


def fits(room: str, other: str, below: dict[str, set[str]]) -> bool:
    """Whether a room may import another: itself, one below, or one that it lies in."""
    return room == other or other in below[room] or room.startswith(f"{other}.")


@pytest.mark.parametrize("kinds", [{"top"}, {"top", "lazy"}], ids=["when loaded", "when run"])
def test_no_modules_import_each_other_in_a_circle(kinds: set[Kind]) -> None:
    graph = {
        module: {other for other, kind in others.items() if kind in kinds}
        for module, others in imports().items()
    }
    assert [sorted(circle) for circle in circles(graph)] == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {frozenset("bc")}
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


def test_tests_lie_in_rooms_of_the_same_name() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    of_no_room = {"", "campaigns"}  # what damages and kills goes through all of them
    assert {".".join(folder.parts) for folder in folders} - of_no_room <= set(plan())


def test_every_package_is_listed_for_installation() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == {f"retina_fm.{package}".rstrip(".") for package in PACKAGES}


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


@pytest.mark.parametrize("face", sorted(face for face, names in FACES.items() if names))
def test_a_faces_names_are_the_same_for_the_type_checker(face: str) -> None:
    shown = {
        alias.name: (node.module or "").partition(".")[2]
        for node, kind in statements(TREES[face])
        if kind == "typing" and isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == FACES[face]


def test_a_checkout_lets_in_its_parts_and_nothing_else_that_lies_there() -> None:
    found = fresh(
        "import importlib\n"
        "for part in ('adapters', 'indexes', 'training', 'weights', 'tests', 'benchmarks', 'docs'):\n"
        "    try:\n"
        "        print(importlib.import_module(f'retina_fm.{part}').__name__)\n"
        "    except ModuleNotFoundError as error:\n"
        "        print(error)"
    )
    assert found.splitlines() == [
        *(f"retina_fm.{part}" for part in BESIDE),
        *(f"No module named 'retina_fm.{other}'" for other in ("tests", "benchmarks", "docs")),
    ]


def test_public_names_resolve_and_unknown_ones_do_not() -> None:
    for name in retina_fm.__all__:
        assert getattr(retina_fm, name) is not None
    assert set(retina_fm.__all__) <= set(dir(retina_fm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        retina_fm.nothing  # noqa: B018


def test_the_readme_begins_with_two_commands_that_stand_alone() -> None:
    block = (ROOT / "README.md").read_text().split("```")[1]
    assert len([line for line in block.splitlines()[1:] if line.strip()]) == 2


def test_what_is_to_be_installed_is_on_a_registry_or_here() -> None:
    told = [path.name for path in sources() if "retina-fm[" in path.read_text()]
    assert told == [], "retina-fm is on no registry: name the package, or '.[extra]' in a checkout"


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == retina_fm.__version__
