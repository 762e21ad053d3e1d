"""The reference of a module's public names, from their docstrings.

A page says which names it shows, in which order:

    ```{public} flaude
    ConcurrentExecutor
    ExecutionRequest
    ```
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, get_type_hints

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import stringify_annotation

MODULES = ("flaude", "flaude.events", "flaude.local", "flaude.journal", "flaude.report", "flaude.batch_file")
"""The modules whose names are public, the one to prefer first."""


def public_names(module: str) -> set[str]:
    """What a module offers: its `__all__`, else the classes that are its own; dunders are told elsewhere."""
    loaded = import_module(module)
    own = [name for name, value in vars(loaded).items() if inspect.isclass(value) and value.__module__ == module]
    return {name for name in getattr(loaded, "__all__", own) if not name.startswith("_")}


class Public(SphinxDirective):
    """Documents each of the named objects with what suits it."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Have autodoc do it."""
        (module,) = self.arguments
        lines = [f".. currentmodule:: {module}", ""]
        for name in self.content:
            value = getattr(import_module(module), name)
            lines += [*_autodoc(name, value), ""]
        fenced = ["````{eval-rst}", *lines, "````"]
        found = nodes.Element()
        self.state.nested_parse(StringList(fenced, self.get_source_info()[0]), self.content_offset, found)
        return list(found.children)


def _autodoc(name: str, value: object) -> list[str]:
    if inspect.isclass(value) and issubclass(value, BaseException):
        return [f".. autoexception:: {name}", "   :members:", "   :show-inheritance:"]
    if inspect.isclass(value) and issubclass(value, Enum):
        return [f".. autoclass:: {name}", "   :members:", "   :undoc-members:"]
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", "   :exclude-members: run_into, model_config"]
    if callable(value):
        return [f".. autofunction:: {name}"]
    return [f".. autodata:: {name}"]


class Name(SphinxRole):
    """The name of something: a link to it where it is documented, else code as it stands."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave it to the Python domain."""
        role = PyXRefRole()
        return role("py:obj", self.rawtext, self.text, self.lineno, self.inliner, self.options, self.content)


def _from_markdown(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Docstrings are plain text with Markdown's backticks and indented code; have it as reStructuredText."""
    # An indented block after a blank line, below text that is not indented, is code. (Sections have no blank line.)
    pieces = re.split(r"(?<=^\n)((?:    .*\n|\n)+)", "\n".join([*lines, ""]), flags=re.MULTILINE)
    for number, piece in enumerate(pieces):
        if number % 2 and piece.strip():
            language = "python" if _is_python(textwrap.dedent(piece)) else "text"
            pieces[number] = f".. code-block:: {language}\n\n{piece}"
        else:
            pieces[number] = re.sub(r"(?<!`)`([^`]+)`(?!`)", _code, piece)
    lines[:] = "".join(pieces).split("\n")


def _is_python(code: str) -> bool:
    try:
        compile(code, "", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return True


def _code(match: re.Match[str]) -> str:
    text = match[1]
    if re.fullmatch(r"[A-Za-z_][\w.]*", text):
        return f":name:`{text}`\\ "
    # A span may go over the end of a line, which a literal may not in a list; its end may touch a letter.
    return f"``{' '.join(text.split())}``\\ "


def _types_as_options(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Napoleon writes an attribute's type as a field below it, where `tuple[X, ...]` is not read; add defaults."""
    hints = get_type_hints(obj) if what in ("class", "exception") else {}
    defaults = _defaults(obj)

    def typed(match: re.Match[str]) -> str:
        hint = hints.get(match[2])
        type_ = match[4] if hint is None else stringify_annotation(hint, "smart")
        value = f"   :value: {defaults[match[2]]!r}\n" if match[2] in defaults else ""
        return f"{match[1]}   :type: {type_}\n{value}{match[3]}"

    attribute = re.compile(r"^(\.\. attribute:: (\w+)\n)((?:(?:   .*)?\n)*?)   :type: (.*)\n", re.MULTILINE)
    lines[:] = attribute.sub(typed, "\n".join([*lines, ""])).split("\n")


def _defaults(obj: Any) -> dict[str, Any]:
    """The default of each field that has a plain one."""
    if is_dataclass(obj):
        return {field.name: field.default for field in fields(obj) if field.default is not MISSING}
    if inspect.isclass(obj) and issubclass(obj, BaseModel):
        return {
            name: field.default
            for name, field in obj.model_fields.items()
            if not field.is_required() and field.default_factory is None
        }
    return {}


def _signature(
    app: Sphinx,  # noqa: ARG001
    what: str,
    name: str,  # noqa: ARG001
    obj: Any,
    options: Any,  # noqa: ARG001
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """How a class is made: left out where its attributes are listed one by one; so are private fields."""
    if what not in ("class", "exception") or not signature:
        return None
    if (is_dataclass(obj) or issubclass(obj, BaseModel)) and "Attributes:" in (obj.__doc__ or ""):
        return "", None
    signature = re.sub(r", _\w+: .*?(?=, \w+: |\)$)", "", signature)
    return re.sub(r"<[^<>]*>", "...", signature), returns


def _public_bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:  # noqa: ARG001
    """A base that is not public stands for its own bases."""
    bases[:] = [over for base in bases for over in (base.__bases__ if base.__name__.startswith("_") else [base])]


@cache
def _aliases() -> dict[str, str]:
    """Where objects are defined, to where they are public."""
    found: dict[str, str] = {}
    for module in MODULES:
        for name in public_names(module):
            value: Any = getattr(import_module(module), name)
            found.setdefault(f"{getattr(value, '__module__', module)}.{name}", f"{module}.{name}")
    return found


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """A name by where its object is defined, or by no module at all, as annotations and docstrings have it."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain = env.domains.python_domain
    for name in filter(None, [_aliases().get(target), *(f"{module}.{target}" for module in MODULES)]):
        if name in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.add_directive("public", Public)
    app.add_role("name", Name())
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _from_markdown, priority=400)  # napoleon is at 500
    app.connect("autodoc-process-docstring", _types_as_options, priority=600)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-bases", _public_bases)
    return {"parallel_read_safe": True}
