"""`flaude schema`: the JSON Schema of batch files."""

from __future__ import annotations

import json

from flaude.batch_file import json_schema


def schema() -> int:
    """Print the JSON Schema of batch files, for editors: `flaude schema > flaude.schema.json`."""
    print(json.dumps(json_schema(), indent=2))
    return 0
