"""What the project says: docstrings, pages, version; and that no input becomes code."""

import ast
import configparser
import dataclasses
import importlib
import importlib.metadata
import inspect
import itertools
import re

from processes import ROOT

import odeopt

WINGS = ["rules", "limits", "dynamics", "kernels", "spectra", "rates", "proofs", "nets", "studies"]
PUBLIC_MODULES = [f"odeopt.{name}" for name in (*WINGS, "proofs.families", "data", "plot")]


# Docstrings


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
    """Return {place: object} of the functions and classes that the wings export, each once."""
    found = {
        value: f"{module_name}.{name}"
        for module_name in PUBLIC_MODULES
        for name, value in vars(importlib.import_module(module_name)).items()
        if name in importlib.import_module(module_name).__all__
        if inspect.isfunction(value) or inspect.isclass(value)
    }
    return {place: value for value, place in found.items()}


PUBLIC = public_objects()


def public_functions():
    """Yield (place, function); a method that overrides another is documented where that one stands."""
    for place, value in PUBLIC.items():
        if inspect.isfunction(value):
            yield place, value
            continue
        for name, member in vars(value).items():
            function = getattr(member, "__func__", member)
            overrides = any(hasattr(base, name) for base in value.__bases__)
            if inspect.isfunction(function) and not name.startswith("_") and not overrides:
                yield f"{place}.{name}", function


def named(place, docstring, parameters):
    """Parameters named in backticks by a method of few words, which other modules of the package call."""
    is_method = isinstance(PUBLIC.get(place.rpartition(".")[0]), type)
    return {name for name in parameters if is_method and f"`{name}`" in docstring}


def test_every_parameter_is_documented_and_none_is_invented():
    offences = [
        f"{place}: {name} is {'undocumented' if name in parameters else 'invented'}"
        for place, function in public_functions()
        for parameters in [set(inspect.signature(function).parameters) - {"self", "cls"}]
        for name in parameters ^ (documented(function.__doc__) or named(place, function.__doc__, parameters))
    ]
    offences += [
        f"{place}: hyperparameter {name} is undocumented or invented"
        for place, value in PUBLIC.items()
        if inspect.isclass(value) and issubclass(value, odeopt.UpdateRule) and dataclasses.is_dataclass(value)
        for name in {field.name for field in dataclasses.fields(value)} ^ documented(value.__doc__)
    ]
    offences += [
        f"{place}: attribute {name} is invented"
        for place, value in PUBLIC.items()
        if dataclasses.is_dataclass(value)
        for name in documented(value.__doc__, "Attributes")
        if name not in value.__dataclass_fields__ and not hasattr(value, name)
    ]
    assert not offences, "\n".join(sorted(offences))


def test_every_public_function_and_rule_has_an_example():
    """Value types are shown at work by the function that returns them."""
    shown = {
        place: value
        for place, value in PUBLIC.items()
        if inspect.isfunction(value) or issubclass(value, odeopt.UpdateRule)
    }
    assert len(shown) > 60
    # They take a finished study; notebook 05 shows them at work.
    for name in ("power_slopes", "unstable_runs", "paper_figures"):
        del shown[f"odeopt.nets.{name}"]
    offences = [
        place
        for place, value in shown.items()
        if not any(">>>" in line for line in sections(value.__doc__).get("Examples", ()))
    ]
    assert not offences, "\n".join(offences)


# Pages


def test_readme_is_short():
    """Its code is run from the wheel and from a clone, in test_install.py."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_links_of_the_pages_lead_to_files():
    offences = [
        f"{page.name} points to {target}"
        for page in ROOT.glob("*.md")
        for pair in re.findall(r"\]\(([^)\s#]+)|src=\"([^\"]+)\"", page.read_text())
        for target in filter(None, pair)
        if "://" not in target and not (ROOT / target).exists()
    ]
    assert not offences, "\n".join(offences)


def test_version_is_stated_once_and_read_everywhere():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: odeopt.__version__"
    assert importlib.metadata.version("odeopt") == odeopt.__version__
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest.group(1) == odeopt.__version__


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
    assert not found, "\n".join(found)


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


def test_no_input_becomes_code():
    offences = [
        f"{path.relative_to(ROOT)}, {call}"
        for path in (ROOT / "odeopt").rglob("*.py")
        for call in unsafe(path.read_text())
    ]
    assert not offences, "\n".join(offences)


def test_unsafe_calls_are_noticed_and_safe_ones_pass():
    refused = [
        "eval(text)",
        "sympy.sympify(text)",
        "S(text)",
        "parse_expr(text)",
        "np.load(file, allow_pickle=True)",
        "torch.load(file)",
        "subprocess.run(text, shell=True)",
    ]
    assert [len(list(unsafe(line))) for line in refused] == [1] * len(refused)
    safe = "sympify(x, strict=True); np.load(f, allow_pickle=False); net.eval(); re.compile(p); ast.parse(t)"
    assert list(unsafe(safe)) == []
