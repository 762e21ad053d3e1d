"""What to tell somebody whose YAML does not parse: what they most likely meant, and the fix."""

from __future__ import annotations

import re

from ruamel.yaml.error import MarkedYAMLError

from flaude.batch_file.nodes import Lines

_QUOTES = "goes in quotes, or below a `|`, indented"
_KEY = re.compile(r"\s*(?:- +)*[\w.\"'-]+:(?=\s)")
_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)*([A-Za-z_][\w-]*):(?!//)\S")

_BEGINS = {
    "\t": "a tab; YAML is indented with spaces",
    "`": f"a text that begins with ` {_QUOTES}",
    "@": f"a text that begins with @ {_QUOTES}",
    "%": f"a text that begins with % {_QUOTES}",
}


def sentence(error: MarkedYAMLError, lines: Lines) -> tuple[int, str]:
    """Where a syntax error is, as an offset into the text, and what to do about it.

    The parser's own words are used where there is nothing better. They quote no text of the file.
    """
    mark = error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    place = lines.place(offset)
    problem = str(error.problem or "")
    before = lines.line(place.line)[: place.column - 1]
    character = lines.text[offset : offset + 1]
    if "mapping values are not allowed" in problem:
        return _colon(offset, before, lines)
    if "cannot start any token" in problem:
        return offset, _BEGINS.get(character, f"a text that begins with {character!r} {_QUOTES}")
    if "sequence entries are not allowed" in problem:
        return offset, f"a list begins on a line of its own; a text that begins with - {_QUOTES}"
    if "found unexpected end of stream" in problem:
        start = error.context_mark.index if error.context_mark else offset
        return start, "the quote that begins here is never closed"
    if "unknown escape character" in problem:
        return offset, "in double quotes a backslash begins an escape; write two, or use single quotes"
    if "chomping or indentation" in problem or "a comment or a line break" in problem:
        return offset, "after `|` or `>` the text begins on the next line, indented"
    if "alphabetic or numeric" in problem and error.context in {"while scanning an alias", "while scanning an anchor"}:
        return max(0, offset - 1), f"a text that begins with * or & {_QUOTES}"
    if error.context and "flow" in error.context and "expected" in problem:
        return _bracket(error, offset, lines)
    if "expected <block end>" in problem:
        return offset, _not_the_end(problem, before, lines, place.line)
    if "could not find expected ':'" in problem:
        start = error.context_mark.index if error.context_mark else offset
        return start, "this line is neither `name: value` nor a part of the text above; look at its indentation"
    return offset, f"no YAML: {_own_words(error)}"


def _colon(offset: int, before: str, lines: Lines) -> tuple[int, str]:
    place = lines.place(offset)
    if _KEY.match(before):
        return offset, f"a text with `: ` in it {_QUOTES}"
    number = place.line - 1
    while number > 0 and not lines.line(number).strip():
        number -= 1
    above = lines.line(number)
    here = offset - len(before.lstrip())
    if glued := _KEY_WITHOUT_SPACE.match(above):
        return here, f"line {number}, above, has no space after its colon; write `{glued[1]}: …`"
    if _indentation(lines.line(place.line)) > _indentation(above):
        return here, f"indented more than line {number}, which has its value already; align it with the names above"
    return offset, "a name and a colon cannot stand here; look at the indentation and the quotes of the lines above"


def _bracket(error: MarkedYAMLError, offset: int, lines: Lines) -> tuple[int, str]:
    opened = lines.place(error.context_mark.index) if error.context_mark else lines.place(offset)
    bracket = "{" if "mapping" in str(error.context) else "["
    closing = {"{": "}", "[": "]"}[bracket]
    hint = "if it begins a text, put the text in quotes"
    if offset >= len(lines.text.rstrip()):
        return error.context_mark.index if error.context_mark else offset, f"`{bracket}` is never closed; {hint}"
    return offset, f"a `,` or `{closing}` is missing for the `{bracket}` in line {opened.line}; {hint}"


def _not_the_end(problem: str, before: str, lines: Lines, number: int) -> str:
    found = problem.rpartition("found ")[2]
    if before.strip():  # something stands before it on its line
        stripped = re.sub(r"^\s*(?:- +)*(?:[\w-]+: +)?", "", before)
        if stripped.startswith("'"):
            return "the text in single quotes has ended; write a quote inside of it twice: 'don''t'"
        if stripped.startswith('"'):
            return 'the text in double quotes has ended; write a quote inside of it as \\"'
        if stripped.startswith(("[", "{")):
            return "the brackets have closed, and more follows; put a text that begins with [ or { in quotes"
        return f"more follows than one value; a text {_QUOTES}"
    if re.match(r"\s*-[\w\"']", lines.line(number)):
        return "a list's item begins with a dash and a space: `- `"
    if "'-'" in found:
        return "a list's item where a name is expected; indent it below the name that the list belongs to"
    if "scalar" in found:
        return "this line belongs to no name; indent it more if it goes on with the text above"
    above = ", or give it the - of a list's item" if lines.line(number - 1).lstrip().startswith("-") else ""
    return f"the indentation fits to nothing above; align it with the names it belongs to{above}"


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _own_words(error: MarkedYAMLError) -> str:
    words = " ".join(filter(None, (str(error.context or ""), str(error.problem or ""))))
    return words.replace("\n", " ") or "it does not parse"
