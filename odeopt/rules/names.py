r"""Methods by name: rules from names and text, grids of rules, and what identifies a rule in a file."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import itertools
import shlex
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from odeopt.checks import is_number, is_symbolic
from odeopt.rules.adaptive import AdaGrad, Adam, RMSProp, SignDescent
from odeopt.rules.averaged import Averaged, Lookahead, ScheduleFree, with_average
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov, NesterovConstant
from odeopt.rules.momentum import QHM, TorchSGD, TripleMomentum
from odeopt.rules.own_file import class_from_file
from odeopt.rules.resolve import fields_said, in_order, is_switch
from odeopt.rules.schedule import Schedule
from odeopt.rules.schedule_text import number_or_schedule
from odeopt.rules.weight_decay import WeightDecayed

__all__ = [
    "METHODS", "RULES", "class_named", "method_names", "named_rules", "needed", "numbers_of", "old_rule_spec",
    "require_decay", "rule_grid", "rule_named", "rule_spec", "rules_written", "with_decay",
]  # fmt: skip

# The short names of methods, in the order in which they are listed.
METHODS: dict[str, type[UpdateRule]] = {
    "gd": GradientDescent,
    "hb": HeavyBall,
    "nag": Nesterov,
    "nagc": NesterovConstant,
    "hm": HigherMomentum,
    "tm": TripleMomentum,
}
# All classes known by name.
RULES: dict[str, type[UpdateRule]] = {
    rule.__name__: rule
    for rule in (*METHODS.values(), QHM, TorchSGD, RMSProp, Adam, AdaGrad, SignDescent, ScheduleFree)
}
# Rules around another one, whose class follows.
_AROUND: dict[str, type[Any]] = {rule.__name__: rule for rule in (Averaged, Lookahead)}


def method_names(names: Iterable[str], known: Iterable[str] = tuple(METHODS)) -> tuple[str, ...]:
    """Return short names of methods if each is known and none is repeated, or raise ValueError."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"methods must be a sequence of names, got {names!r}")
    names, known = tuple(names), tuple(known)
    if not names:
        raise ValueError(f"methods must not be empty; choose among {', '.join(known)}")
    found = tuple(_known_as(name, known) for name in names)
    if len(set(found)) < len(found):
        raise ValueError(f"methods must differ, got {', '.join(names)}")
    return found


def _known_as(name: Any, known: Sequence[str], show: Callable[[str], str] = repr) -> str:
    """The known name of what is named in either of its two names, in any case, or ValueError."""
    either, asked = {n.casefold(): n for n in known}, str(name).casefold()
    for short, rule in METHODS.items():
        pair = {short, rule.__name__}
        either |= {n.casefold(): kept for n in pair for kept in pair & {*known}}
    if isinstance(name, str) and asked in either:
        return either[asked]
    rules = {n.casefold(): rule for n, rule in (RULES | METHODS).items()}
    if isinstance(name, str) and asked in rules:
        hint = f"; {rules[asked].__name__} has no numbers of its own here, so give the rule with its numbers."
    else:
        near = difflib.get_close_matches(asked, either, n=1, cutoff=0.5)
        hint = f"; did you mean {show(either[near[0]])}?" if near else "."
    raise ValueError(f"unknown method {name!r}{hint} Known are {', '.join(known)}")


def rule_named(name: str, hyperparameters: Iterable[str], num_steps: int | None = None) -> UpdateRule:
    """Return the rule of a class, a short name, or a class in a file, with hyperparameters written as text.

    Commas make a tuple, ``true`` and ``false`` set switches, and schedules are written as
    :func:`odeopt.rules.schedule_text.number_or_schedule` reads them, for `num_steps`.
    """
    kind = class_named(name)
    if kind in _AROUND.values():
        return _rule_around(kind, [*hyperparameters], num_steps)
    values: dict[str, Any] = {}
    for text in hyperparameters:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"hyperparameters are written name=value, got {text!r}")
        if key in values:
            raise ValueError(f"{key} is given twice, the second time as {value!r}; give it once")
        values[key] = _value(value, key, num_steps)
    known = [field.name for field in in_order(kind) if field.init]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{name} takes {', '.join(known)}: {', '.join(unknown)} is unknown")
    if missing := [key for key in needed(kind) if key not in values]:
        raise ValueError(
            f"{name} takes {', '.join(known)}: {', '.join(missing)} is missing, as in {missing[0]}=0.1"
        )
    try:
        return kind(**values)
    except TypeError as error:  # of a class of one's own, whose checks may raise what they like
        raise ValueError(f"{name} takes {', '.join(known)}: {error}") from error


def class_named(name: str) -> type[Any]:
    """Return the class of a short name, of a class's name, or in a file, ``FILE.py:CLASS``."""
    if ":" in name:
        return class_from_file(name)
    found = _known_as(name, (*RULES, *_AROUND), str)
    return RULES.get(found) or _AROUND[found]


def needed(kind: type[UpdateRule]) -> list[str]:
    """The hyperparameters of a class that have no default."""
    fields = (f for f in in_order(kind) if f.init)
    return [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]


def _rule_around(kind: type[Any], words: list[str], num_steps: int | None) -> UpdateRule:
    """A rule around another one: its class, then that of the other, then the numbers of both."""
    if not words or "=" in words[0]:
        raise ValueError(f"{kind.__name__} goes around a rule, as in {kind.__name__} GradientDescent lr=0.1")
    own = {f.name for f in dataclasses.fields(kind)} - {"rule"}
    mine = dict(word.split("=", 1) for word in words[1:] if word.partition("=")[0] in own and "=" in word)
    inner = rule_named(words[0], [word for word in words[1:] if word.partition("=")[0] not in own], num_steps)
    values = {name: _value(text, name, num_steps) for name, text in mine.items()}
    if "steps" in values and is_number(values["steps"]) and float(values["steps"]).is_integer():
        values["steps"] = int(values["steps"])
    return kind(inner, **values)


def _value(text: str, name: str, num_steps: int | None) -> Any:
    if text in ("true", "false"):
        return text == "true"
    entries = tuple(number_or_schedule(part, name, num_steps) for part in text.split(","))
    return entries[0] if len(entries) == 1 else entries


def rules_written(texts: Iterable[str], num_steps: int | None = None) -> tuple[UpdateRule, ...]:
    """Return rules written as ``CLASS name=value ...``, a class of a file being ``FILE.py:CLASS``."""
    words = [shlex.split(text) for text in texts]
    if any(not each for each in words):
        raise ValueError("a rule is written CLASS name=value ..., got an empty text")
    return tuple(rule_named(name, numbers, num_steps) for name, *numbers in words)


def rule_grid(rule_type: type[UpdateRule], **values: Any) -> tuple[UpdateRule, ...]:
    """Return the rules of one method for all combinations of hyperparameters.

    Parameters
    ----------
    rule_type : type
        A subclass of UpdateRule.
    **values : object or list of objects
        For each hyperparameter one value, or a list of values.

    Returns
    -------
    tuple of UpdateRule
        The last of the hyperparameters varies first.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> for rule in rule_grid(HeavyBall, lr=[0.1, 0.2], momentum=0.5):
    ...     print(rule)
    HeavyBall(lr=0.1, momentum=0.5)
    HeavyBall(lr=0.2, momentum=0.5)
    """
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    return tuple(rule_type(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*lists))


def named_rules(
    names: Iterable[str],
    *,
    lr: Sequence[float | Schedule],
    momentum: Sequence[float | Schedule] = (0.9,),
    r: Sequence[float] = (3.0,),
    momenta: Sequence[float] = (0.2, 0.5),
    average: float | Schedule | Literal["polyak"] | None = None,
    **decay: Any,
) -> tuple[UpdateRule, ...]:
    """Return the rules of named methods for all combinations of hyperparameters.

    Parameters
    ----------
    names : iterable of str
        Among "gd", "hb", "nag" and "hm".
    lr : sequence of float or Schedule
        Learning rates.
    momentum : sequence of float or Schedule, optional
        Momenta of "hb".
    r : sequence of float, optional
        Frictions of "nag".
    momenta : sequence of float, optional
        The one tuple of momenta of "hm".
    average : float, Schedule or "polyak", optional
        Return their averaged outputs.
    **decay : object, optional
        `weight_decay`, `decoupled` and `to_start` of all of them; "hm" has none.

    Returns
    -------
    tuple of UpdateRule
        Method by method in the order of the names.

    Examples
    --------
    >>> named_rules(["gd", "hb"], lr=[0.1], momentum=[0.5, 0.9])
    (GradientDescent(lr=0.1), HeavyBall(lr=0.1, momentum=0.5), HeavyBall(lr=0.1, momentum=0.9))
    """
    grids = {
        "gd": {},
        "hb": {"momentum": list(momentum)},
        "nag": {"r": list(r)},
        "hm": {"momenta": tuple(momenta)},
    }
    chosen = method_names(names, grids)
    require_decay(chosen, decay)
    rules = (rule_grid(METHODS[name], lr=list(lr), **grids[name], **decay) for name in chosen)
    return tuple(with_average(rule, average) for rule in itertools.chain(*rules))


def with_decay(names: Iterable[str], decay: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the names that have weight decay, all of them where there is none."""
    return tuple(name for name in names if not decay or issubclass(METHODS[name], WeightDecayed))


def require_decay(names: Iterable[str], decay: Mapping[str, Any]) -> None:
    """Refuse weight decay for methods that have none."""
    for name in names:
        if not with_decay([name], decay):
            raise ValueError(f"{name} has no weight decay; leave it out, or leave weight_decay out")


def numbers_of(rule: UpdateRule) -> dict[str, Any]:
    """Hyperparameters and changed switches as JSON has them, schedules with their parameters.

    >>> from odeopt import GradientDescent
    >>> numbers_of(GradientDescent(0.1, weight_decay=0.01, decoupled=True))
    {'lr': 0.1, 'weight_decay': 0.01, 'decoupled': True}
    """
    switches = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule) if is_switch(f)}
    defaults = {f.name: f.default for f in dataclasses.fields(rule)}
    changed = {name: value for name, value in switches.items() if value is not defaults[name]}
    numbers = {n: v.to_dict() if isinstance(v, Schedule) else v for n, v in rule.hyperparameters.items()}
    return {**numbers, **changed}


_OWN = "odeopt.rules."
# Values that are compared of a schedule which is a function.
_FOLLOWED = 1000
# Where the classes stood when a key still held their module.
_OLD_MODULES = {
    "odeopt.rules.classical": "odeopt.methods",
    "odeopt.rules.momentum": "odeopt.momentum",
    "odeopt.rules.adaptive": "odeopt.adaptive",
}


def rule_spec(rule: UpdateRule) -> dict[str, Any]:
    """What identifies a rule in a JSON file: its class, for a class of one's own a digest of its code too."""
    cls = type(rule)
    if cls.__module__.startswith(_OWN):
        return {"type": cls.__qualname__, **_fields(rule)}
    return {"type": f"{cls.__module__}.{cls.__qualname__}", "source": _source_digest(rule), **_fields(rule)}


def old_rule_spec(rule: UpdateRule) -> dict[str, Any] | None:
    """What :func:`rule_spec` was before classes moved; None for a class of one's own."""
    module = _OLD_MODULES.get(type(rule).__module__)
    return None if module is None else {"type": f"{module}.{type(rule).__qualname__}", **_fields(rule)}


def _fields(rule: UpdateRule) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields_said(rule).items()}


def _plain(value: Any) -> Any:
    """A hyperparameter as JSON that no other one shares."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Schedule):
        return _schedule_spec(value)
    if isinstance(value, UpdateRule):
        return rule_spec(value)
    if is_symbolic(value):
        import sympy

        return sympy.srepr(value)
    if callable(value):
        return hashlib.sha256(repr(_bytecode(value)).encode()).hexdigest()[:16]
    return value if value is None or isinstance(value, (bool, str)) else float(value)


def _schedule_spec(schedule: Schedule) -> dict[str, Any]:
    """A schedule by its class and parameters, and by its values where these do not tell all."""
    cls, values = type(schedule), {f.name: getattr(schedule, f.name) for f in dataclasses.fields(schedule)}
    own = cls.__module__.startswith(_OWN)
    spec = {"schedule": cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}"}
    if not own or any(callable(v) and not isinstance(v, Schedule) for v in values.values()):
        last = _FOLLOWED if schedule.last is None else min(schedule.last, _FOLLOWED)
        told = " ".join(f"{schedule(k)!r}" for k in range(last + 1)) + ("" if own else _source(cls))
        spec["source"] = hashlib.sha256(told.encode()).hexdigest()[:16]
    return spec | {name: _plain(value) for name, value in values.items()}


def _source_digest(rule: UpdateRule) -> str:
    """Hash of the source of a class and of its bases that are not the package's own, and of what it does."""
    digest = hashlib.sha256(_first_iterates(rule).encode())
    for base in type(rule).__mro__:
        if not base.__module__.startswith((_OWN, "builtins", "abc")):
            digest.update(_source(base).encode())
    return digest.hexdigest()[:16]


def _first_iterates(rule: UpdateRule) -> str:
    """The first iterates on a curved function, to 9 digits: they tell of functions that the class calls."""
    curvatures = np.array([0.5, 1.0, 2.0])
    try:
        with np.errstate(all="ignore"):
            run = iterate(rule, np.array([1.0, -0.7, 0.3]), lambda z: curvatures * z + z**3)
            values = np.array(list(itertools.islice(run, 12)), dtype=float)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""  # a step for other objects than arrays is told by its source alone
    return " ".join(f"{value:.8e}" for value in values.ravel() + 0.0)


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # a class typed at a prompt has no file: its bytecode stands for it
        return repr([(name, _bytecode(value)) for name, value in sorted(vars(cls).items())])


def _bytecode(value: Any) -> Any:
    """What a function or a constant of a class does, without addresses and line numbers."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    code = value if isinstance(value, types.CodeType) else getattr(value, "__code__", None)
    if code is not None:
        return code.co_code.hex(), code.co_names, tuple(map(_bytecode, code.co_consts))
    return (
        repr(value) if isinstance(value, (bool, int, float, str, tuple, type(None))) else type(value).__name__
    )
