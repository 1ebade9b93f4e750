"""The project keeps its own rules: cheap import, one front door, layers, documentation, safety."""

import ast
import configparser
import dataclasses
import importlib
import importlib.metadata
import inspect
import itertools
import pkgutil
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import odeopt

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "odeopt").rglob("*.py"))
MODULES = [info.name for info in pkgutil.walk_packages(odeopt.__path__, "odeopt.")]
HEAVY = ("torch", "matplotlib", "cvxpy")


def run(*args, cwd=ROOT, timeout=300):
    """Run the Python of the tests in a process of its own."""
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False
    )


def output(*args, **options):
    done = run(*args, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Import cost


def test_import_loads_nothing_heavy():
    heavy = (*HEAVY, "sympy", "scipy", "numpy")
    loaded = output("-c", f"import odeopt, sys; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_import_takes_at_most_three_times_numpy():
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    seconds = {"numpy": [], "odeopt": []}
    for _ in range(5):  # in turn, so that a busy moment of the machine meets both
        for module, values in seconds.items():
            values.append(float(output("-c", code.format(module))))
    numpy, ours = (statistics.median(seconds[module]) for module in ("numpy", "odeopt"))
    assert ours <= 3 * numpy, f"import odeopt takes {ours:.3f} s, import numpy {numpy:.3f} s"


def test_no_module_outside_nets_loads_heavy_packages_when_imported():
    outside = [name for name in MODULES if not name.startswith("odeopt.nets")]
    code = (
        "import importlib, sys\n"
        f"for name in {outside}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [m for m in {HEAVY} if m in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    output("-c", code)


# The front door


@pytest.mark.parametrize("name", odeopt.__all__)
def test_public_name_resolves(name):
    value = getattr(odeopt, name)
    home = odeopt._MODULE_OF[name]
    assert getattr(value, "__module__", value.__name__) == f"odeopt.{home}"
    assert name in dir(odeopt)


def test_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'gradient_decent'"):
        odeopt.gradient_decent  # noqa: B018


def test_names_for_type_checkers_are_the_public_names():
    (block,) = (
        node
        for node in ast.parse((ROOT / "odeopt/__init__.py").read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    listed = {
        alias.name: alias.name if node.module == "odeopt" else node.module.removeprefix("odeopt.")
        for node in block.body
        for alias in node.names
    }
    assert listed == odeopt._MODULE_OF


def test_function_wins_over_its_module_in_every_order_of_imports():
    code = """
import importlib, itertools, sys, types

for name in ("check", "integrate"):
    uses = (f"import odeopt; odeopt.{name}", f"from odeopt import {name}", f"import odeopt.{name}")
    for order in itertools.permutations(uses):
        for module in [m for m in sys.modules if m.partition(".")[0] == "odeopt"]:
            del sys.modules[module]
        for use in order:
            exec(use, {})
            found = {}
            exec(f"import odeopt; by_attribute = odeopt.{name}", found)
            exec(f"from odeopt import {name} as by_name", found)
            module = importlib.import_module(f"odeopt.{name}")
            assert isinstance(module, types.ModuleType), (order, use)
            assert isinstance(found["by_attribute"], types.FunctionType), (order, use)
            assert found["by_attribute"] is found["by_name"] is getattr(module, name), (order, use)
"""
    output("-c", code)


def test_other_attributes_of_the_package_can_be_set(monkeypatch):
    monkeypatch.setattr(odeopt, "check", "replaced")
    assert odeopt.check == "replaced"


# Layers and lint


def lint_imports(cwd):
    return run("-c", "from importlinter.cli import lint_imports_command as f; f()", "--no-cache", cwd=cwd)


def test_import_contracts_are_kept():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "statement", "breach"),
    [
        ("limit", "import odeopt.plot", "odeopt.limit -> odeopt.plot"),  # upwards
        ("loss", "import odeopt.integrate", "odeopt.loss -> odeopt.integrate"),  # sideways
        ("rates", "import torch", "odeopt.rates -> torch"),  # around the boundary
        ("data", "import pickle", "odeopt.data -> pickle"),
        ("stray", "", "stray"),  # a module without a place among the layers
    ],
)
def test_import_contracts_notice_a_breach(tmp_path, module, statement, breach):
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    shutil.copytree(ROOT / "odeopt", tmp_path / "odeopt")
    with (tmp_path / "odeopt" / f"{module}.py").open("a") as file:
        file.write(f"\n{statement}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert breach in done.stdout


def test_ruff_finds_nothing():
    output("-m", "ruff", "check", "--no-cache", "--output-format=concise", ".")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_can_be_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 420


# Documentation


def sections(docstring):
    """Split a numpydoc docstring into {title: lines}."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    underlined = [i for i, line in enumerate(lines[1:]) if re.fullmatch(r"-{3,}", line) and lines[i]]
    bounds = itertools.pairwise([*underlined, len(lines)])
    return {lines[start]: lines[start + 2 : end] for start, end in bounds}


def documented(docstring, title="Parameters"):
    """Names listed in a section of a numpydoc docstring."""
    entries = (line for line in sections(docstring).get(title, ()) if line and not line[0].isspace())
    return {name.strip(" *") for line in entries for name in line.partition(" :")[0].split(",")}


def test_docstring_reader_reads_numpydoc():
    docstring = """Sum.

    Parameters
    ----------
    a, b : float
        Numbers : two of them.
    *rest : float

    Returns
    -------
    float
    """
    assert documented(docstring) == {"a", "b", "rest"}
    assert list(sections(docstring)) == ["Parameters", "Returns"]
    assert sections("One line.") == {}


def public_objects():
    """Yield (name, object) for all that the modules call public; the command line documents itself."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        if module_name == "odeopt.cli":
            continue
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if getattr(value, "__module__", None) == module_name:
                yield f"{module_name}.{name}", value


PUBLIC = dict(public_objects())


def public_functions():
    """Yield (name, function); a method that overrides another is documented where that one stands."""
    for name, value in PUBLIC.items():
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            for attribute, member in vars(value).items():
                function = getattr(member, "__func__", member)
                overrides = any(hasattr(base, attribute) for base in value.__bases__)
                if inspect.isfunction(function) and not attribute.startswith("_") and not overrides:
                    yield f"{name}.{attribute}", function


FUNCTIONS = dict(public_functions())


def at_the_front_door(name):
    """Whether users meet the object: a public name, a member of one, or what a public module offers."""
    return any(part in odeopt._MODULE_OF for part in name.split(".")[1:])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented_and_none_is_invented(name):
    function = FUNCTIONS[name]
    # What only other modules of the package call may do with a sentence, but half a list is a mistake.
    if at_the_front_door(name) or "Parameters" in sections(function.__doc__):
        parameters = set(inspect.signature(function).parameters) - {"self", "cls"}
        assert documented(function.__doc__) == parameters


RULES = {
    name: value
    for name, value in PUBLIC.items()
    if inspect.isclass(value) and issubclass(value, odeopt.UpdateRule)
}


@pytest.mark.parametrize("name", RULES)
def test_every_hyperparameter_is_documented(name):
    rule = RULES[name]
    assert documented(rule.__doc__) == {field.name for field in dataclasses.fields(rule)}


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if dataclasses.is_dataclass(value) and name not in RULES]
)
def test_documented_attributes_exist(name):
    listed = documented(PUBLIC[name].__doc__, "Attributes")
    fields = {field.name for field in dataclasses.fields(PUBLIC[name])}
    assert all(attribute in fields or hasattr(PUBLIC[name], attribute) for attribute in listed), listed


# Value types are shown at work by the function that returns them.
SHOWN = [
    name
    for name, value in PUBLIC.items()
    if at_the_front_door(name) and (inspect.isfunction(value) or name in RULES)
]


@pytest.mark.parametrize("name", SHOWN)
def test_public_docstring_has_an_example(name):
    assert any(">>>" in line for line in sections(PUBLIC[name].__doc__).get("Examples", ()))


def test_docstring_tests_see_the_public_functions():
    functions = {f"odeopt.{odeopt._MODULE_OF[n]}.{n}" for n in odeopt.__all__ if n.islower()}
    submodules = {"odeopt.data.data", "odeopt.nets.nets", "odeopt.plot.plot"}
    assert functions - submodules <= set(SHOWN) <= set(PUBLIC)


def test_readme_is_short_and_its_code_runs(tmp_path):
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 150
    blocks = re.findall(r"^```python\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    output("-W", "error", "-c", "\n".join(blocks), cwd=tmp_path)


def test_links_of_the_pages_lead_to_files():
    for page in ROOT.glob("*.md"):
        targets = re.findall(r"\]\(([^)\s#]+)|src=\"([^\"]+)\"", page.read_text())
        for target in filter(None, (a or b for a, b in targets)):
            assert "://" in target or (ROOT / target).exists(), f"{page.name} points to {target}"


def test_version_is_stated_once_and_read_everywhere():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: odeopt.__version__"
    assert importlib.metadata.version("odeopt") == odeopt.__version__
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest.group(1) == odeopt.__version__


# Safety

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_READERS = {"parse_expr", "sympify"}


def unsafe(source):
    """Yield each call by which data could become code: unpickling, or a string read as an expression."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        # sympify reads a string as code, but not with strict=True. `net.eval()` and `re.compile`
        # are other things: FORBIDDEN_CALLS counts bare names only.
        if (
            ((called in FORBIDDEN_CALLS or name in FORBIDDEN_READERS) and options.get("strict") != "True")
            or name == "S"
            or called in {"torch.load", "pickle.load", "pickle.loads"}
            or options.get("allow_pickle", "False") != "False"
            or options.get("shell", "False") != "False"
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_input_becomes_code(path):
    assert list(unsafe(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "sympy.sympify(text)",
        "S(text)",
        "parse_expr(text)",
        "np.load(file, allow_pickle=True)",
        "torch.load(file)",
    ],
)
def test_unsafe_call_is_noticed(line):
    assert len(list(unsafe(line))) == 1


def test_safe_calls_pass():
    assert not list(
        unsafe("sympify(x, strict=True); np.load(f, allow_pickle=False); net.eval(); re.compile(p)")
    )


def test_no_file_names_a_place_on_someones_machine():
    patterns = ("*.md", "*.cfg", "*.toml", "*.txt", "Makefile", ".ci/*", "odeopt/**/*.py", "tests/**/*.py")
    paths = [p for pattern in (*patterns, "notebooks/*.ipynb", "benchmarks/*") for p in ROOT.glob(pattern)]
    place = re.compile(r"(?<![\w.~])/(?:home|root|Users|work|opt|tmp)/\w|site-packages[/]")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in paths
        if path.is_file()
        for match in place.finditer(path.read_text())
    ]
    assert len(paths) > 20
    assert not found
