"""The tree keeps its rules: each module in its room, each name once, and imports that point down.

The layers and the file names that repeat are two tables of docs/architecture.md, read here. The
last tests break each rule in a small tree of their own, and see that it is told.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
COMMANDS = ("migrate", "verify", "purge", "reoptimize", "usage", "runs")
READ_ONLY = ("usage", "runs", "purge/explain")
"""Packages with a plan that is all they do."""
DEMANDED = {"Command"}
"""Class names that Django demands."""
MOST_AT_THE_TOP, MOST_IN_A_FOLDER = 12, 20
NO_MIRROR = {"appdirectory", "oddities", "servers", "worlds", "attacks", "upgrade"}
"""Folders of `tests` that hold what tests share, and sites of earlier versions."""


def table(heading: str) -> list[list[str]]:
    """Return the cells of the rows below a table's heading."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


LAYERS = [names(row[1]) for row in table("| layer | packages |")]
ROLES = {name.removesuffix(".py") for row in table("| file |") for name in names(row[0])}


@dataclass(frozen=True)
class Tree:
    """The modules below one package, and what each imports of it."""

    root: Path

    @property
    def files(self) -> dict[str, Path]:
        """Module -> file; migrations, which Django names, left out."""
        found = {}
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root.parent).with_suffix("").parts
            if "migrations" not in parts:
                found[".".join(parts).removesuffix(".__init__")] = path
        return found

    def package_of(self, module: str) -> str:
        """Return the package or module directly below the root; "" for the root itself."""
        return (*module.split("."), "")[1]

    def imports(self, module: str) -> Iterator[str]:
        """Yield each module of this tree that one imports: at the top, inside functions, for types."""
        path, files = self.files[module], self.files
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names if each.name in files)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    is_package = path.name == "__init__.py"
                    parents = module.split(".")[: -node.level + is_package or None]
                    base = ".".join([*parents, *([base] if base else [])])
                for each in node.names:
                    inner = f"{base}.{each.name}"
                    if inner in files or base in files:
                        yield inner if inner in files else base


def faults_of_layers(tree: Tree, layers: list[list[str]]) -> list[str]:
    """Return a sentence for each package without a layer, and each import that does not point down."""
    rank = {name: number for number, row in enumerate(layers) for name in row}
    packages = {tree.package_of(module) for module in tree.files} - {""}
    faults = [f"{name} is in no layer" for name in sorted(packages - rank.keys())]
    for module in tree.files:
        here = tree.package_of(module)
        for imported in tree.imports(module):
            there = tree.package_of(imported)
            # The package itself holds no more than the version.
            if here and there and here != there and rank.get(here, 0) >= rank.get(there, 99):
                faults.append(f"{module} imports {imported}, which is not below it")
    return faults


def faults_of_circles(tree: Tree) -> list[str]:
    graph = {module: {*tree.imports(module)} - {module} for module in tree.files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"a circle: {' <- '.join(error.args[1])}"]
    return []


def faults_of_stems(tree: Tree, roles: set[str]) -> list[str]:
    """Return a sentence for each file name used twice, and each pair that differs by an "s" alone."""
    stems = defaultdict(list)
    for module, path in tree.files.items():
        if path.name != "__init__.py" and path.stem not in roles:
            stems[path.stem].append(module)
    faults = [f"one file name, {stem}: {found}" for stem, found in stems.items() if found[1:]]
    pairs = [f"{stem} and {stem}s are told apart by an s" for stem in stems if f"{stem}s" in stems]
    return faults + pairs


def faults_of_classes(tree: Tree) -> list[str]:
    classes = defaultdict(list)
    for module, path in tree.files.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(module)
    twice = {name: found for name, found in classes.items() if found[1:] and name not in DEMANDED}
    return [f"one class name, {name}: {found}" for name, found in twice.items()]


def faults_of_folders(tree: Tree) -> list[str]:
    faults = []
    for folder in {path.parent for path in tree.files.values()}:
        inside = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        limit = MOST_AT_THE_TOP - 1 if folder == tree.root else MOST_IN_A_FOLDER
        if len(inside) > limit:
            faults.append(f"{folder.name} holds {len(inside)} modules")
        if not (folder / "__init__.py").exists():
            faults.append(f"{folder.name} is no package")
    return faults


def faults_of_commands(tree: Tree, commands: tuple[str, ...]) -> list[str]:
    """Return a sentence for each part that a command's package lacks, or one below it."""
    begun = {
        str(path.parent.relative_to(tree.root))
        for path in tree.files.values()
        if path.stem in ("plan", "apply", "result")
    }
    return [
        f"{package} has no {part}.py"
        for package in sorted({*commands, *begun})
        for part in ("plan", "result", *["apply"] * (package not in READ_ONLY))
        if not (tree.root / package / f"{part}.py").exists()
    ]


PRODUCT = Tree(ROOT / "r2maint")


def test_every_import_points_down():
    assert faults_of_layers(PRODUCT, LAYERS) == []


def test_each_package_has_one_layer_and_each_layer_its_packages():
    listed = [name for row in LAYERS for name in row]
    assert sorted(listed) == sorted(set(listed))
    assert all(
        (PRODUCT.root / name).is_dir() or (PRODUCT.root / f"{name}.py").exists() for name in listed
    )


def test_no_modules_import_each_other_in_a_circle():
    assert faults_of_circles(PRODUCT) == []


def test_a_file_name_says_one_thing():
    assert faults_of_stems(PRODUCT, ROLES) == []


def test_a_class_name_says_one_thing():
    assert faults_of_classes(PRODUCT) == []


def test_folders_are_packages_of_a_size_that_can_be_surveyed():
    assert faults_of_folders(PRODUCT) == []


def test_every_command_has_the_same_parts():
    assert faults_of_commands(PRODUCT, COMMANDS) == []


def test_every_package_says_what_flows_in_and_out():
    for module, path in PRODUCT.files.items():
        if path.name == "__init__.py" and "management" not in module:
            assert len(ast.get_docstring(ast.parse(path.read_text())) or "") > 10, module


def test_tests_lie_in_folders_that_mirror_the_packages():
    folders = {
        path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")
    }
    rooms = {str(folder) for folder in folders} - NO_MIRROR - {"."}
    assert {room for room in rooms if not (PRODUCT.root / room).is_dir()} == set()


def test_no_test_module_imports_another():
    tests = Tree(ROOT / "tests")
    imported = {name for module in tests.files for name in tests.imports(module)}
    assert {name for name in imported if name.split(".")[-1].startswith("test_")} == set()


# Each rule is broken once


@pytest.fixture
def broken(tmp_path):
    """Write files into a tree that keeps every rule, and return it."""

    def write(**files: str) -> Tree:
        whole = {"upper__plan": "", "upper__result": "", "upper__apply": "", "lower__base": ""}
        for name, text in (whole | files).items():
            path = tmp_path / "house" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (path.parent, tmp_path / "house"):
                (folder / "__init__.py").touch()
            path.write_text(text)
        return Tree(tmp_path / "house")

    return write


TWO_LAYERS = [["upper"], ["lower", "beside"]]


@pytest.mark.parametrize(
    "line",
    [
        "from house.upper import plan",
        "from house.upper.plan import anything",
        "import house.upper.plan",
        "def lazily():\n    from house.upper import plan",
        "if TYPE_CHECKING:\n    from house.upper.plan import Plan",
        "from ..upper import plan",
        "from ..upper.plan import Plan",
    ],
)
def test_an_import_that_points_up_is_told(broken, line):
    (fault,) = faults_of_layers(broken(lower__base=line), TWO_LAYERS)
    assert fault.startswith("house.lower.base imports house.upper")


def test_an_import_within_one_layer_is_told(broken):
    tree = broken(beside__other="from house.lower import base")
    assert faults_of_layers(tree, TWO_LAYERS) != []


def test_a_package_that_no_layer_names_is_told(broken):
    assert faults_of_layers(broken(attic__box=""), TWO_LAYERS) == ["attic is in no layer"]


def test_a_tree_that_keeps_the_rules_has_no_faults(broken):
    tree = broken(upper__plan="from house.lower.base import anything")
    assert faults_of_layers(tree, TWO_LAYERS) == []
    assert faults_of_circles(tree) == faults_of_stems(tree, {"plan"}) == []
    assert faults_of_commands(tree, ("upper",)) == faults_of_folders(tree) == []


def test_a_circle_is_told(broken):
    tree = broken(
        lower__base="from house.lower import other", lower__other="import house.lower.base"
    )
    assert faults_of_circles(tree) != []


@pytest.mark.parametrize("stem", ["base", "plans"])
def test_a_file_name_that_is_used_again_is_told(broken, stem):
    assert len(faults_of_stems(broken(**{f"beside__{stem}": ""}), set())) == 1


def test_a_class_name_that_is_used_again_is_told(broken):
    tree = broken(lower__base="class Item: ...", upper__plan="class Item: ...")
    assert len(faults_of_classes(tree)) == 1


def test_a_command_without_a_result_is_told(broken):
    assert faults_of_commands(broken(migrate__plan="", migrate__apply=""), ()) == [
        "migrate has no result.py"
    ]


def test_a_thirteenth_module_at_the_top_is_told(broken):
    tree = broken(**{f"loose{number}": "" for number in range(12)})
    assert faults_of_folders(tree) == ["house holds 12 modules"]
