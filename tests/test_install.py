"""What an installation gives: source archive, wheel, and clone; its types, and README's lines in each."""

import ast
import configparser
import email
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from processes import ROOT, output, run

import odeopt

LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", *(ROOT / ".gitignore").read_text().replace("/", "").split()
)
README_LINES = "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return a copy of the sources, named as a clone is, without what git ignores."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("parent") / "odeopt", ignore=LEFT_OUT)


@pytest.fixture(scope="module")
def packed(clone, tmp_path_factory):
    """Return the source archive."""
    folder = tmp_path_factory.mktemp("sdist")
    output("-c", f"from setuptools import build_meta as b; b.build_sdist({str(folder)!r})", cwd=clone)
    (path,) = folder.glob("odeopt-*.tar.gz")
    return path


@pytest.fixture(scope="module")
def archive(packed):
    """Return the unpacked source archive."""
    with tarfile.open(packed) as file:
        file.extractall(packed.parent, filter="data")
    return packed.with_suffix("").with_suffix("")


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    """Return the wheel that the source archive builds."""
    folder = tmp_path_factory.mktemp("wheel")
    output("-c", f"from setuptools import build_meta as b; b.build_wheel({str(folder)!r})", cwd=archive)
    (path,) = folder.glob("odeopt-*.whl")
    return path


def outside():
    """Return the variables of a shell that knows nothing of the sources."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "COVERAGE_RUN"}}


def environment(folder, *what):
    """Return the Python of a new environment, where pip installs `what` beside the packages of this one.

    The packages of others are shared, for torch alone takes minutes to install; that odeopt asks for all that
    it imports has a test of its own. A path in a .pth file is read, but no further .pth file below it: an
    editable odeopt stays unseen, and comes from `what` alone.
    """
    venv.create(folder, symlinks=True)
    (python,) = (path for path in folder.glob("bin/python"))
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if os.path.basename(path) in {"site-packages", "dist-packages"}]
    (packages / "shared.pth").write_text("\n".join(shared))
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--force-reinstall")
    output("-m", "pip", "install", *options, *what, python=python, env=outside(), cwd=folder)
    return python


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the Python of an environment with the wheel."""
    return environment(tmp_path_factory.mktemp("installed"), wheel)


def test_source_archive_holds_every_file_of_the_clone(clone, archive):
    assert README_LINES
    files = {path.relative_to(clone) for path in clone.rglob("*") if path.is_file()}
    held = {path.relative_to(archive) for path in archive.rglob("*") if path.is_file()}
    missing = {str(path) for path in files - held if "egg-info" not in str(path)}
    assert not missing


def test_wheel_asks_for_every_package_that_it_imports(wheel):
    """Of an environment that is empty but for the wheel and what it asks for, nothing else is missing."""
    imported = set()
    for path in (ROOT / "odeopt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.partition(".")[0] for name in names}
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith("/METADATA"))
        asked = email.message_from_bytes(file.read(name)).get_all("Requires-Dist")
    named = {re.split(r"[^\w-]", line)[0].lower().replace("_", "-") for line in asked}
    homes = importlib.metadata.packages_distributions()
    others = imported - set(sys.stdlib_module_names) - {"odeopt"}
    missing = {name for name in others if not {home.lower() for home in homes.get(name, [name])} & named}
    assert len(others) > 10
    assert missing <= set(WITH_ANOTHER)
    assert set(WITH_ANOTHER.values()) <= named


# What a package that is asked for brings with it.
WITH_ANOTHER = {
    "PIL": "matplotlib", "cycler": "matplotlib", "distributed": "dask", "mpmath": "sympy", "triton": "torch",
    "typing_extensions": "torch",
}  # fmt: skip


def test_archive_and_wheel_pass_the_check_of_twine(packed, wheel):
    said = output("-m", "twine", "check", "--strict", packed, wheel)
    assert said.count("PASSED") == 2


def described(source):
    """Return the description that PyPI shows of a project whose repository has this address."""
    spec = importlib.util.spec_from_file_location("odeopt_setup", ROOT / "setup.py")
    spec.loader.exec_module(setup := importlib.util.module_from_spec(spec))
    return setup.description((ROOT / "README.md").read_text(), source)


def test_description_on_pypi_has_no_link_that_only_a_clone_can_follow(wheel):
    target = re.compile(r"\]\(([^)]+)\)")
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(file.read(name))
    assert "Paper, https://arxiv.org/abs/2010.13165" in metadata.get_all("Project-URL")
    for text in (metadata.get_payload(), described("https://example.org/odeopt")):
        assert text.startswith("# odeopt")
        assert all(link.startswith("https://") for link in target.findall(text))
    assert len(target.findall(text)) > 10
    assert "(https://example.org/odeopt/raw/HEAD/notebooks/check.png)" in text


def test_citation_states_what_the_package_states():
    stated = dict(re.findall(r"^([a-z-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.M))
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert (stated["version"], stated["license"]) == (odeopt.__version__, config["metadata"]["license"])


FIRST_TIME = """
import numpy as np, sympy, odeopt
h, b = sympy.symbols("h b", positive=True)
limit = odeopt.ode_limit(odeopt.HeavyBall(lr=h**2, momentum=1 - b * h), h)
x = np.random.default_rng(0).standard_normal((30, 8))
forecast = odeopt.forecast(x, np.sin(x[:, 0]), methods=["gd", "nag"], target=1e-4)
certificate = odeopt.certify(limit.subs({b: 2}), mu=1)
settings = odeopt.studies.CheckSettings(width=256, num_steps=30, seeds=1)
report = odeopt.check(x, np.sin(x[:, 0]), methods=["gd", "nag"], settings=settings)
print(limit, certificate.rate, certificate.verify(), [m.steps.value for m in forecast.methods], sep="; ")
open("report.html", "w").write(report.to_html())
"""


def test_first_time_user_derives_predicts_certifies_and_reports_in_ten_lines(installed, tmp_path):
    printed = output("-W", "error", "-c", FIRST_TIME, python=installed, env=outside(), cwd=tmp_path)
    ode, rate, verified, steps = printed.strip().split("; ")
    assert (ode, rate, verified) == ("X'' + b*X' + grad f(X) = 0", "4/3", "True")
    gd, nag = json.loads(steps)
    assert 0 < nag < gd  # the accelerated method is the faster one where mu << L
    page = (tmp_path / "report.html").read_text()
    assert "<math" in page
    assert "Nesterov" in page


def test_lines_of_the_readme_run_from_the_wheel_in_an_empty_folder(installed, tmp_path):
    script = f"{README_LINES}\nimport odeopt; print(odeopt.__file__)"
    printed = output("-W", "error", "-c", script, python=installed, env=outside(), cwd=tmp_path)
    assert "packages/odeopt/__init__.py" in printed


def test_lines_of_the_readme_run_from_the_folder_that_holds_a_clone(clone, tmp_path):
    """There the folder odeopt is found first, as a namespace package; the installation must win."""
    python = environment(tmp_path / "environment", "-e", clone)
    script = f"{README_LINES}\nimport odeopt; print(odeopt.__file__)"
    printed = output("-c", script, python=python, env=outside(), cwd=clone.parent)
    assert str(clone / "odeopt/__init__.py") in printed


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Return a folder with a client of the package and one that uses it wrongly in two ways."""
    folder = tmp_path_factory.mktemp("client")
    right = Path(shutil.copy(ROOT / "tests/typing/client.py", folder)).read_text()
    wrong = "\nwrong: str = ode_limit(HeavyBall(lr=0.01, momentum=0.8))\nchecked = check(1, 2, methods=3)\n"
    (folder / "wrong_client.py").write_text(right + wrong)
    return folder


def assert_the_wrong_lines_alone_are_noticed(clients, lines):
    """Both checkers would also pass on a package without types: the two wrong uses must be noticed."""
    last = len((clients / "wrong_client.py").read_text().splitlines())
    errors = {line: text for line, text in lines if "error" in text}
    assert set(errors) == {("wrong_client.py", last - 1), ("wrong_client.py", last)}, errors
    assert "ODELimit" in errors["wrong_client.py", last - 1]
    assert "methods" in errors["wrong_client.py", last]


def test_typed_client_passes_mypy_against_the_wheel(installed, clients):
    # the packages below are large, and pyright, in the next test, follows them
    (clients / "mypy.ini").write_text("[mypy-torch.*,matplotlib.*,scipy.*]\nfollow_imports = skip\n")
    options = ("--strict", "--no-incremental", "--no-error-summary", "--no-pretty")
    command = ("-m", "mypy", *options, "--python-executable", installed, "client.py", "wrong_client.py")
    found = run(*command, env=outside(), cwd=clients)
    parts = (line.split(":", 2) for line in found.stdout.splitlines())
    lines = [((name, int(number)), text) for name, number, text in parts]
    assert_the_wrong_lines_alone_are_noticed(clients, lines)


def test_typed_client_passes_pyright_against_the_wheel(installed, clients):
    (clients / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "include": ["*.py"]}')
    options = ("--pythonpath", installed, "--level", "error", "--outputjson")
    found = json.loads(run("-m", "basedpyright", *options, env=outside(), cwd=clients).stdout)
    lines = [
        (
            (os.path.relpath(one["file"], clients), one["range"]["start"]["line"] + 1),
            f"error {one['message']}",
        )
        for one in found["generalDiagnostics"]
    ]
    assert found["summary"]["filesAnalyzed"] == 2
    assert_the_wrong_lines_alone_are_noticed(clients, lines)


def test_public_surface_is_typed_throughout(installed, tmp_path):
    # --verifytypes asks the python that PATH names for the packages, whatever --pythonpath says
    path = os.pathsep.join((str(installed.parent), os.environ["PATH"]))
    options = ("--pythonpath", installed, "--verifytypes", "odeopt", "--ignoreexternal")
    output("-m", "basedpyright", *options, env=outside() | {"PATH": path}, cwd=tmp_path)


@pytest.mark.slow  # half a minute, and what `make lint` does; the public surface is checked above
def test_types_inside_check():
    output("-m", "basedpyright", "--pythonpath", sys.executable, "--level", "error")
