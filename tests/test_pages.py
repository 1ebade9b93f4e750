"""What the project says: pages, version; and that no input becomes code."""

import ast
import configparser
import importlib
import importlib.metadata
import re

from processes import ROOT

import odeopt

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
