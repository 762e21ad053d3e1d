"""Names of a package that are imported when they are first asked for (PEP 562), so that a start is short."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def names_of(package: str, module_of: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Type checkers have to be told of the names by imports below `if TYPE_CHECKING`, and must not see the `__getattr__`:
    they would take any name for one of the package's.

    Args:
        package: Its `__name__`.
        module_of: Where each name is from.
    """

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = getattr(import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
