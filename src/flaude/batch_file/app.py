"""The app of a batch: the command's, the file's, the environment's."""

from __future__ import annotations

from flaude._model.errors import ConfigError
from flaude._model.placement import check_app_name
from flaude.batch_file.nodes import Place
from flaude.batch_file.problems import Problems
from flaude.batch_file.shapes import Section
from flaude.batch_file.spec import Given


def app_of(batch: Section, given: Given, problems: Problems) -> str:
    """The app's name; empty when there is none, which is then in the problems."""
    if given.app is not None:
        return _checked_app(given.app, "--app", problems)
    if "app" in batch.values or "app" in batch.broken:
        return str(batch.values.get("app", ""))
    if not given.environ.get("FLY_APP"):
        problems.add(batch.node, batch.path_of("app"), "is missing; write it into the file, give --app, or set FLY_APP")
        return ""
    return _checked_app(given.environ["FLY_APP"], "FLY_APP", problems)


def _checked_app(app: str, where: str, problems: Problems) -> str:
    try:
        check_app_name(app)
    except ConfigError as error:
        problems.add(Place(where), "", error.wrong[0][1])
    return app
