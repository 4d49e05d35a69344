"""The layout: which folder may import which, and that common/ has only what is shared."""

import ast
import subprocess
import sys

import pytest

from common.records import ROOT

FOLDERS = ("common", "part1", "part2", "part3", "report", "tests")
MAY_IMPORT = {
    "common": {"common"},
    "part1": {"common", "part1"},
    "part2": {"common", "part2"},
    "part3": {"common", "part1", "part2", "part3"},
    "report": {"common", "part1", "part2", "part3", "report"},
}
PACKAGES = {"torch", "torchvision", "matplotlib", "numpy", "tqdm"}


def imports(path):
    """The modules that a file imports, with those that it takes from a package: "common.plots"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names} | {node.module}
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_arrows_run_one_way_and_no_other_packages_are_used(folder):
    allowed = MAY_IMPORT[folder] | PACKAGES | ({"typst"} if folder == "report" else set()) | sys.stdlib_module_names
    for path in (ROOT / folder).glob("*.py"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


def test_every_file_of_common_serves_two_parts_or_one_and_the_report():
    """By itself or through another file of common/."""
    files = {f"common.{path.stem}": imports(path) for path in (ROOT / "common").glob("*.py") if path.stem != "__init__"}
    for file in files:
        users, added = {file}, True
        while added:
            added = {name for name, used in files.items() if used & users} - users
            users |= added
        folders = [
            folder
            for folder in ("part1", "part2", "part3", "report")
            if any(imports(path) & users for path in (ROOT / folder).glob("*.py"))
        ]
        assert len(folders) >= 2, file


def test_only_what_the_design_names_lies_at_the_top():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    top = {path.split("/")[0] for path in listed if not path.startswith(".")}
    assert top <= {*FOLDERS, "README.md", "requirements.txt"}
