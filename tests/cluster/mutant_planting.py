"""Plants a seeded bug in the running program: the code of the functions that it changes."""

from __future__ import annotations

import functools
import importlib
import inspect
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from tests.cluster.mutant import Mutant


@functools.cache
def source_of(module: str) -> str:
    """The source of a module of the broker; read once, so that all tries are of the same."""
    path = Path(str(importlib.import_module(f"streambus_broker.{module}").__file__))
    return path.read_text(encoding="utf-8")


def changed_functions(mutant: Mutant) -> list[tuple[FunctionType, CodeType]]:
    """The functions whose code the change of the source changes, with their code to be.

    Raises:
        LookupError: The place is not found exactly once, or changes no function.
    """
    module = importlib.import_module(f"streambus_broker.{mutant.module}")
    source = source_of(mutant.module)
    if source.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: {source.count(mutant.old)} places in {mutant.module}")
    changed = source.replace(mutant.old, mutant.new)
    before = dict(_codes(compile(source, str(module.__file__), "exec")))
    after = dict(_codes(compile(changed, str(module.__file__), "exec")))
    found = [
        (function, after[name])
        for name, function in _functions(module)
        if name in after and after[name] != before.get(name)
    ]
    if not found:
        raise LookupError(f"{mutant.name}: no function is changed")
    return found


def apply(mutant: Mutant) -> None:
    """Change the running program.

    Raises:
        LookupError: As for `changed_functions`.
    """
    for function, code in changed_functions(mutant):
        function.__code__ = code


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """The code of every function outside other functions, by qualified name."""
    for constant in code.co_consts:
        if not isinstance(constant, CodeType):
            continue
        if constant.co_flags & inspect.CO_OPTIMIZED:  # a function; a class body is not
            yield constant.co_qualname, constant
        else:
            yield from _codes(constant)


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Every function and method that a module defines."""
    holders: list[Any] = [module]
    holders += [each for each in vars(module).values() if _is_own_class(each, module)]
    for holder in holders:
        for value in vars(holder).values():
            function = value
            if isinstance(value, property):
                function = value.fget
            elif isinstance(value, staticmethod | classmethod):
                function = value.__func__
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield function.__qualname__, function


def _is_own_class(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__
