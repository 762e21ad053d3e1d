"""Batches written down: a YAML, TOML, JSON, JSONL or CSV file as settings and requests.

spec = await load("batch.yaml", environ=os.environ)
batch = await ConcurrentExecutor.from_settings(spec.settings).run_batch(spec.requests)
"""

from flaude.batch_file.formats import Format
from flaude.batch_file.loading import load
from flaude.batch_file.problems import BatchFileError, Problem
from flaude.batch_file.schema import json_schema
from flaude.batch_file.spec import BatchSpec

__all__ = ["BatchFileError", "BatchSpec", "Format", "Problem", "json_schema", "load"]
