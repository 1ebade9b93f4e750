r"""A rule class of a user's own, imported from its file: ``my_rules.py:MyRule``."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from odeopt.rules.base import UpdateRule

__all__ = ["class_from_file"]


def class_from_file(spec: str) -> type[UpdateRule]:
    """Import a file and return one of its rule classes, or raise ValueError.

    The module goes by the name of its file, so that other processes can import it too.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ValueError(f"rule = {spec!r} must be FILE.py:CLASS, with a file name that is a Python name")
    if not path.is_file():
        raise ValueError(f"rule = {spec!r}: there is no file {path}")
    module = _imported(path)
    found = vars(module).get(name)
    if isinstance(found, type) and issubclass(found, UpdateRule) and not inspect.isabstract(found):
        return found
    known = ", ".join(
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, UpdateRule) and value.__module__ == module.__name__
    )
    raise ValueError(
        f"rule = {spec!r}: {name!r} is no UpdateRule with a step in {path.name}; it has {known or 'none'}"
    )


def _imported(path: Path) -> ModuleType:
    """The module of a file, whose folder is looked in after all others."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path.stem)
    except Exception as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != path:
        raise ValueError(
            f"{path} cannot be imported: there is another module of the name {path.stem}; rename the file"
        )
    return module
