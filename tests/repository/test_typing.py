"""Every public name is typed: what a checker sees is what a reader is promised."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pytest

from streambus_broker import EmbeddedBroker
from tests.repository import user_program

LIBRARIES = ["streambus_storage", "streambus_raft", "streambus_protocol", "streambus_client"]


def untyped(module: ModuleType) -> list[str]:
    """List the public functions and methods of a module that lack an annotation."""
    found = []
    for name in getattr(module, "__all__", ()):
        public = getattr(module, name)
        if inspect.isclass(public):
            for attribute, member in vars(public).items():
                if attribute.startswith("_") and attribute != "__init__":
                    continue
                function = inspect.unwrap(getattr(member, "__func__", member))
                if isinstance(function, property):
                    function = function.fget
                found += [f"{name}.{attribute}: {what}" for what in _missing(function)]
        else:
            found += [f"{name}: {what}" for what in _missing(inspect.unwrap(public))]
    return found


def _missing(function: object) -> list[str]:
    """List what one function leaves out; things that are no Python function leave out nothing."""
    if not inspect.isfunction(function) or function.__module__.partition(".")[0] not in LIBRARIES:
        return []
    signature = inspect.signature(function)
    missing = [
        f"parameter {parameter.name}"
        for parameter in list(signature.parameters.values())
        if parameter.annotation is parameter.empty and parameter.name not in {"self", "cls"}
    ]
    if signature.return_annotation is signature.empty and function.__name__ != "__init__":
        missing.append("result")
    return missing


@pytest.mark.parametrize("library", LIBRARIES)
def test_public_names_exist_and_are_typed(library: str) -> None:
    module = importlib.import_module(library)
    names = module.__all__
    assert len(set(names)) == len(names), "a name stands twice in __all__"
    assert [name for name in names if not hasattr(module, name)] == []
    assert untyped(module) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_front_door_leads_to_documentation(library: str) -> None:
    module = importlib.import_module(library)
    undocumented = [
        name
        for name in module.__all__
        if (inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name)))
        and getattr(module, name).__module__.startswith(library)
        and not inspect.getdoc(getattr(module, name))
    ]
    assert undocumented == []
    assert module.__doc__


def test_missing_annotations_are_noticed() -> None:
    module = ModuleType("streambus_storage")
    source = (
        "__all__ = ['f', 'C']\n"
        "def f(a: int, b): ...\n"
        "class C:\n"
        "    def m(self) : ...\n"
        "    @property\n"
        "    def p(self): ...\n"
        "    @classmethod\n"
        "    def c(cls, x) -> None: ...\n"
    )
    exec(compile(source, "made", "exec"), vars(module))
    assert untyped(module) == [
        "f: parameter b",
        "f: result",
        "C.m: result",
        "C.p: result",
        "C.c: parameter x",
    ]


def test_user_program_runs() -> None:
    with EmbeddedBroker() as broker:
        user_program.main(broker.address)
