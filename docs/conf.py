"""How the site is built: `make docs`. Every warning is an error, and nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE / "_ext"), str(_HERE.parent / "src")]

from pygments.lexers.data import JsonLexer  # noqa: E402  # after the path is set
from pygments.lexers.special import TextLexer  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from flaude import __version__  # noqa: E402

project = "flaude"
author = "The flaude developers"
copyright = "The flaude developers, MIT licence"  # noqa: A001  # Sphinx's name
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "names", "commands", "fields"]
exclude_patterns = ["_build"]
smartquotes = False  # `--option` is no dash
nitpicky = True
nitpick_ignore_regex = [
    # A docstring's backticks are for names of all kinds; those that are documented become links.
    ("py:obj", ".*"),
    # Other people's types, whose documentation would have to be fetched.
    ("py:class", r"(_?asyncio|collections|contextlib|datetime|enum|pathlib|pydantic|types|typing)\..*"),
]
nitpick_ignore = [
    # Types of ours that nobody has to name.
    ("py:class", "flaude._providers.fly.connection.FlyEndpoint"),
    ("py:class", "flaude._model.settings.ExecutorSettings"),
    ("py:class", "flaude.report.data.Runs"),
    ("py:class", "flaude._providers.fly.models.App"),
    ("py:class", "flaude._model.machine_sizes.MachineSize"),
]

html_theme = "furo"
html_title = "flaude"
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# A fence's info string goes on after the language: `yaml batch.yaml`, `sh notest: …`; see tests/support/snippets.py.
suppress_warnings: list[str] = []

autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config, __new__, __init__"}
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"


def setup(app: Sphinx) -> None:
    """Languages that Pygments has by other names, or not at all."""
    app.add_lexer("jsonl", JsonLexer)
    app.add_lexer("csv", TextLexer)
