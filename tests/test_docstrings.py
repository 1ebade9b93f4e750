"""Docstrings of public names, validated by numpydoc; pyproject.toml says which of its checks hold."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.hooks.validate_docstrings import parse_config
from numpydoc.validate import validate
from processes import ROOT

import odeopt

# All rooms; `checks` and `shown` serve them, and what is internal has one sentence.
WINGS = [
    info.name
    for info in pkgutil.iter_modules(odeopt.__path__)
    if info.name not in ("__main__", "checks", "shown")
]

CHECKS = parse_config(ROOT)["checks"]

# The example of a class shows its members at work: each alone would begin by building the object.
MEMBER = {"EX01"}
# A method that overrides another is documented where that one stands: parameters and return value are the
# same, and what it says itself, if anything, is what differs.
OVERRIDE = MEMBER | {"PR01", "RT01"}

DESCRIPTORS = (property, functools.cached_property)


def public_objects(module):
    """Yield (place, object) of the functions and classes that a module exports, with modules it exports."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public_objects(value)
        elif inspect.isfunction(value) or inspect.isclass(value):
            yield f"{module.__name__}.{name}", value


def definitions(cls, name):
    """Functions and properties of a name in the package's own classes, the nearest first."""
    owners = [base for base in cls.__mro__ if base.__module__.startswith("odeopt.")]
    found = [vars(base)[name] for base in owners if name in vars(base)]
    unwrapped = [getattr(value, "__func__", value) for value in found]
    return [value for value in unwrapped if inspect.isfunction(value) or isinstance(value, DESCRIPTORS)]


def public_members(cls):
    """Yield (name, definition, whether it overrides another) of documented methods and properties."""
    for name in dir(cls):
        found = [] if name.startswith("_") else definitions(cls, name)
        documented = [value for value in found if value.__doc__] or found[-1:]
        yield from ((name, value, value is not documented[-1]) for value in documented)


def faults(value, waived=frozenset()):
    """Return numpydoc's messages on a function, class or property."""
    found = validate(get_doc_object(value, config={"show_class_members": False}))["errors"]
    return [f"{code}: {message}" for code, message in found if code in CHECKS - waived]


def invented_attributes(cls):
    """Return names that the section Attributes of a dataclass lists and its objects have not."""
    listed = get_doc_object(cls, config={"show_class_members": False})["Attributes"]
    names = [name for entry in listed for name in entry.name.split(", ")]
    fields = getattr(cls, "__dataclass_fields__", names)
    return [name for name in names if name not in fields and not hasattr(cls, name)]


def faults_of(module):
    """Yield 'place: message' for each fault of a module's public names; what several inherit counts once."""
    seen = set()
    for place, value in public_objects(module):
        yield from (f"{place}: {fault}" for fault in faults(value))
        if inspect.isclass(value):
            yield from (f"{place}: attribute {name} is invented" for name in invented_attributes(value))
        for name, member, overrides in public_members(value) if inspect.isclass(value) else ():
            if member not in seen:
                seen.add(member)
                yield from (f"{place}.{name}: {f}" for f in faults(member, OVERRIDE if overrides else MEMBER))


@pytest.mark.parametrize("wing", WINGS)
def test_docstrings_of_public_names_are_complete(wing):
    """Fields of a frozen dataclass are its parameters, each with type and meaning, in their order."""
    module = importlib.import_module(f"odeopt.{wing}")
    offences = sorted(faults_of(module))
    assert not offences, "\n".join([f"{len(offences)} faults", *offences])


def test_faults_are_noticed():
    def scaled(x, by):
        """Multiply.

        Parameters
        ----------
        x : float
        to : float
            Another name.

        Returns
        -------
        float
        """
        return by * x

    @dataclasses.dataclass(frozen=True)
    class Fraction:
        """Two numbers.

        Attributes
        ----------
        above, below : int
            Of them one is there.
        """

        below: int = 1

    codes = {fault.partition(":")[0] for fault in faults(scaled)}
    assert codes == {"PR01", "PR02", "PR07", "RT03", "EX01"}
    assert faults(scaled, codes) == []
    assert invented_attributes(Fraction) == ["above"]
