"""The plan of the house: a cheap import, one front door, imports that run one way, files of readable size."""

import ast
import configparser
import graphlib
import importlib
import inspect
import pkgutil
import re
import shutil

import grimp
import pytest
from processes import ROOT, output, run

import odeopt

SOURCES = sorted((ROOT / "odeopt").rglob("*.py"))
MODULES = ["odeopt", *(info.name for info in pkgutil.walk_packages(odeopt.__path__, "odeopt."))]
# scipy loads its parts at first use: `import scipy`, and no name of a part at the head of a file
HEAVY = ["torch", "matplotlib", "cvxpy", "scipy.optimize", "scipy.stats", "scipy.integrate"]

LINES_OF_THE_PACKAGE = 50_700
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 50  # its docstring aside


# Import and front door


def test_import_loads_nothing_heavy():
    heavy = [*HEAVY, "sympy", "scipy", "numpy"]
    loaded = output("-c", f"import odeopt, sys; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_modules_outside_nets_load_nothing_heavy_when_imported():
    # a device is torch's: the one file of another wing that imports it, loaded where `device=` is given
    outside = [name for name in MODULES if not name.startswith(("odeopt.nets", "odeopt.kernels.device"))]
    code = (
        "import importlib, sys\n"
        f"for name in {outside}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [m for m in {HEAVY} if m in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    output("-c", code)


def front_door():
    """Return {public name: module it is imported from} of the stub."""
    statements = ast.parse((ROOT / "odeopt/__init__.pyi").read_text()).body
    return {
        alias.asname: f"odeopt.{node.module}" if node.module else "odeopt"
        for node in statements
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_front_door_resolves_every_name_of_its_stub():
    names = front_door()
    assert set(odeopt.__all__) == set(names) - {"nets"}
    assert set(names) <= set(dir(odeopt))
    assert len(names) > 30
    for name, home in names.items():
        value = getattr(odeopt, name)
        if home == "odeopt":
            assert value is importlib.import_module(f"odeopt.{name}")
        else:
            assert value is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="gradient_decent"):
        odeopt.gradient_decent  # noqa: B018


def test_star_import_gives_the_public_names_and_loads_no_torch():
    code = "from odeopt import *; import sys; print(set(names) <= set(globals()), 'torch' in sys.modules)"
    assert output("-c", f"names = {odeopt.__all__}; {code}").strip() == "True False"


def test_exports_exist_and_none_at_the_top_shares_its_name_with_a_module():
    offences = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name, None)
            if value is None:
                offences.append(f"{module_name}.__all__ lists {name}, which does not exist")
            elif module_name == "odeopt" and f"odeopt.{name}" in MODULES and not inspect.ismodule(value):
                offences.append(f"odeopt.{name} is both a module and a {type(value).__name__}")
    assert not offences, "\n".join(offences)


# Which module may import which


def lint_imports(cwd):
    return run("-c", "from importlinter.cli import lint_imports_command as f; f()", "--no-cache", cwd=cwd)


def test_import_contracts_are_kept():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_contracts_notice_every_kind_of_breach(tmp_path):
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    shutil.copytree(ROOT / "odeopt", tmp_path / "odeopt")
    breaches = {
        "rules/base.py": ("import odeopt.limits.ode", "odeopt.rules is not allowed to import odeopt.limits"),
        "proofs/flow.py": ("import odeopt.nets", "odeopt.proofs is not allowed to import odeopt.nets"),
        "rules/linear.py": ("import odeopt.rules.names", "odeopt.rules.linear -> odeopt.rules.names"),
        "rates/rate.py": ("import torch", "odeopt.rates.rate -> torch"),
        "data.py": ("import pickle", "odeopt.data -> pickle"),
        "stray.py": ("", "odeopt.stray"),
    }
    for path, (statement, _) in breaches.items():
        with (tmp_path / "odeopt" / path).open("a") as file:
            file.write(f"\n{statement}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert [found for _, found in breaches.values() if found not in done.stdout] == [], done.stdout


def test_no_import_circle_even_for_type_checkers():
    graph = grimp.build_graph("odeopt", exclude_type_checking_imports=False, cache_dir=None)
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, arrows.values())) > 200
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_picture_in_contributing_is_the_contract():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    contract = config["importlinter:contract:wings"]["layers"].strip().splitlines()
    (picture,) = re.findall(r"\n\n(    __main__.*?)\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert re.findall(r"^    (\S.*?)(?:  .*)?$", picture, re.MULTILINE) == contract


# Reading


def test_ruff_finds_nothing():
    output("-m", "ruff", "check", "--no-cache", "--output-format=concise", ".")
    output("-m", "ruff", "format", "--no-cache", "--check", ".")


def test_house_has_eleven_rooms_and_five_files():
    entries = [path for path in (ROOT / "odeopt").iterdir() if path.name != "__pycache__"]
    assert len([path for path in entries if path.is_dir()]) <= 11
    assert len([path for path in entries if path.suffix == ".py"]) <= 5


def code_lines(function):
    """Lines of a function without those of its docstring."""
    first = function.body[0]
    documentation = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - documentation


def test_files_and_functions_can_be_read_in_one_sitting():
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in SOURCES}
    functions = {
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}": code_lines(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    offences = [
        f"{name} has {count} lines, more than {limit}"
        for limit, counts in (
            (LINES_OF_A_FILE, lines),
            (LINES_OF_A_FUNCTION, functions),
            (LINES_OF_THE_PACKAGE, {"odeopt": sum(lines.values())}),
        )
        for name, count in counts.items()
        if count > limit
    ]
    assert not offences, "\n".join(offences)


def test_no_two_files_of_tests_share_a_name():
    """Pytest imports them by their names alone."""
    names = [path.name for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert sorted(names) == sorted(set(names))
