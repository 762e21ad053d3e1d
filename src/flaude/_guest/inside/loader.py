"""What Python runs first in the machine: the archive's `__main__.py`. Any Python 3 can read it.

The archive holds all modules as one compressed text, half as large as a zip of single files.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036  # an image may have an older one
    sys.exit("flaude: the image needs python3 3.9 or newer, this is " + sys.version.split()[0])

import bz2
import json
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = "flaude_guest"
SOURCES = "sources"


class Sources:
    """Finds and loads our modules: both of Python's protocols for that in one."""

    def __init__(self, sources: "dict[str, str]") -> None:
        self._sources = sources

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> "ModuleSpec | None":
        """Where a module is from; None for those of others."""
        if name.startswith(PACKAGE + ".") and self._module(name) in self._sources:
            return ModuleSpec(name, self, origin=name.replace(".", "/") + ".py")  # type: ignore[arg-type]
        inside = [PACKAGE + "." + module for module in self._sources]
        if any(module.startswith(name + ".") for module in inside):
            return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: object) -> None:
        """Python's own way."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        spec = module.__spec__
        if spec is not None and spec.origin:
            module.__file__ = spec.origin
            exec(compile(self.get_source(spec.name), str(spec.origin), "exec"), module.__dict__)  # noqa: S102  # ours

    def get_source(self, name: str) -> str:
        """For tracebacks, which show the line."""
        return self._sources.get(self._module(name), "")

    @staticmethod
    def _module(name: str) -> str:
        return name[len(PACKAGE) + 1 :]


def run(archive: object) -> int:
    """Run the guest; `archive` is the loader that this file was loaded by, and gives the archive's other file."""
    sources = json.loads(bz2.decompress(archive.get_data(SOURCES)).decode("utf-8"))  # type: ignore[attr-defined]
    sys.meta_path.insert(0, Sources(sources))
    from flaude_guest.main import main  # type: ignore[import-not-found]  # noqa: PLC0415

    return int(main())


if __name__ == "__main__":
    raise SystemExit(run(__loader__))  # type: ignore[name-defined]  # zipimport's
