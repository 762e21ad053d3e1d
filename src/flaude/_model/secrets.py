"""`EnvSecret`: a secret that is known by the name of an environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import SecretStr

from flaude._model.errors import ConfigError


class EnvSecret(SecretStr):
    """A secret value from an environment variable, whose name may be written down where the value may not.

    A journal keeps the name; when a batch is resumed, the value is read from the environment again.

    Args:
        variable: The variable's name.
        environ: Where to look; the process's environment by default.

    Raises:
        ConfigError: The variable is not set, or empty.
    """

    def __init__(self, variable: str, environ: Mapping[str, str] | None = None) -> None:
        value = (os.environ if environ is None else environ).get(variable, "")
        if not value:
            raise ConfigError(f"environment variable {variable}: not set; `export {variable}=…` before you run this")
        super().__init__(value)
        self.variable = variable
