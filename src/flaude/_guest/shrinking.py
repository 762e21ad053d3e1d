"""Sources without what only people read: smaller, and every statement on the line where it was."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Span = tuple[int, int, int]
"""A piece of one line: its number from 1, and the columns, in bytes, where it begins and ends."""


def shrink(source: str) -> str:
    """The source without comments, docstrings and the types of functions.

    Line numbers stay, so that tracebacks fit to what is read here.
    """
    lines = [line.encode() for line in source.split("\n")]
    tree = ast.parse(source)
    spans = [*_comments(source), *_types(tree, lines)]
    for row, begin, end in sorted(spans, reverse=True):  # from the right, so that columns stay what they are
        lines[row - 1] = lines[row - 1][:begin] + lines[row - 1][end:]
    for docstring, alone in _docstrings(tree):
        lines[docstring.lineno - 1] = b" " * docstring.col_offset + (b"pass" if alone else b"")
        for row in range(docstring.lineno, docstring.end_lineno or docstring.lineno):
            lines[row] = b""
    return "\n".join(line.decode().rstrip() for line in lines)


def _comments(source: str) -> Iterator[Span]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            begin = len(token.line[:column].encode())
            yield row, begin, begin + len(token.string.encode())


def _types(tree: ast.Module, lines: list[bytes]) -> Iterator[Span]:
    """Annotations of functions, those that are on one line; a class's own may mean something (dataclasses)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation:
            yield from _one_line(node.lineno, node.col_offset + len(node.arg.encode()), node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            before = lines[node.returns.lineno - 1][: node.returns.col_offset]
            if b" -> " in before:
                yield from _one_line(node.returns.lineno, before.rindex(b" -> "), node.returns)


def _one_line(row: int, begin: int, annotation: ast.expr) -> Iterator[Span]:
    if annotation.lineno == annotation.end_lineno == row and annotation.end_col_offset is not None:
        yield row, begin, annotation.end_col_offset


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.Expr, bool]]:
    """Every docstring, and whether nothing follows it."""
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                yield first, len(node.body) == 1
