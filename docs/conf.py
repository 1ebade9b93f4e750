"""Configuration of the documentation: `make docs` builds it, with warnings as errors."""

import os
import shutil
import urllib.request
from pathlib import Path

import odeopt

HERE = Path(__file__).parent

# Pages run in kernels of their own: one thread each, and no window.
os.environ.setdefault("OMP_NUM_THREADS", "1")
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

exclude_patterns = ["_build", "jupyter_execute"]
templates_path = ["_templates"]
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # numpydoc's sections give the types, with shapes and units
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
# What a page shows was computed as it was built; the notebooks are executed by the tests.
nb_execution_mode = "force"
nb_execution_excludepatterns = ["gallery/*"]
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# Of these, what answers: without a network links to other packages are plain text, and the site still builds.
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


intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items() if answers(url)}

html_theme = "furo"
html_title = f"odeopt {release}"
html_static_path = []
