"""Configuration of the documentation: `make docs` builds it, with warnings as errors."""

import importlib.util
import os
import shutil
import sys
import urllib.request
from pathlib import Path

from sphinx.util import logging

import odeopt

HERE = Path(__file__).parent

# Pages run in kernels of their own: one thread each, no window, and `odeopt` of this environment.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"

project = "odeopt"
author = "The odeopt developers"
copyright = author  # noqa: A001, the name that Sphinx reads
release = version = odeopt.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
]

# The gallery is the notebooks themselves, as they were executed; a link would leave the source folder.
GALLERY = HERE / "gallery"
GALLERY.mkdir(exist_ok=True)
for path in (HERE.parent / "notebooks").glob("*.ipynb"):
    shutil.copy2(path, GALLERY / path.name)

exclude_patterns = ["_build"]
templates_path = ["_templates"]
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
# The reference is what the wings export, no more and no less.
# fmt: off
WINGS = [
    "rules", "limits", "dynamics", "kernels", "spectra", "rates", "proofs", "proofs.families", "nets",
    "studies", "data", "plot",
]
# fmt: on
PUBLIC = {f"odeopt.{wing}": importlib.import_module(f"odeopt.{wing}").__all__ for wing in WINGS}
autosummary_context = {"public": {module: sorted(names, key=str.lower) for module, names in PUBLIC.items()}}
autodoc_typehints = "none"  # numpydoc's sections give the types, with shapes and units
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
# What a page shows was computed as it was built; the notebooks are executed by the tests.
nb_execution_mode = "force"
nb_execution_excludepatterns = ["gallery/*"]
nb_execution_in_temp = True  # pages write files
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables and formulas that a notebook prints

INVENTORIES = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "scipy": "https://docs.scipy.org/doc/scipy",
    "sympy": "https://docs.sympy.org/latest",
    "torch": "https://docs.pytorch.org/docs/stable",
}


def answers(url):
    """Whether an inventory of links can be fetched."""
    try:
        with urllib.request.urlopen(f"{url}/objects.inv", timeout=5):
            return True
    except OSError:
        return False


# Of these, what answers. Where none does there is no network: names of other packages are then plain text,
# links to the outside are not followed, and the site builds all the same.
intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items() if answers(url)}
linkcheck_ignore = [] if intersphinx_mapping else ["https?://"]
linkcheck_retries = 2
linkcheck_timeout = 20

html_theme = "furo"
html_title = f"odeopt {release}"
# Formulas need no network: MathJax in one file, out of a package that would copy 15 MB of it.
(mathjax,) = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations
mathjax_path = "tex-svg.js"
html_static_path = ["_static", f"{mathjax}/static/mathjax/{mathjax_path}"]
html_css_files = ["narrow.css"]


def check_reference(app, env):
    """Warn, which ends the build, of each public name without an entry in the reference."""
    log = logging.getLogger("odeopt")
    if not intersphinx_mapping:
        log.info("No inventory answered: links to other sites are not followed.")
    entries = env.get_domain("py").objects
    for module, names in PUBLIC.items():
        for name in names:
            if f"{module}.{name}" not in entries:
                log.warning("%s.%s is missing in the reference", module, name)


def setup(app):
    """Let the reference be checked once all pages are read."""
    app.connect("env-check-consistency", check_reference)
