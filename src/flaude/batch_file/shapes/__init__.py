"""Shapes: what the values of a batch file may be."""

from flaude.batch_file.shapes.choices import Either, Nullable, OrColumn
from flaude.batch_file.shapes.containers import JsonObject, ListOf, MapOf
from flaude.batch_file.shapes.fields import Field, Fields, Section
from flaude.batch_file.shapes.scalars import Duration, Flag, Number, Text
from flaude.batch_file.shapes.secret import Reference, Secret
from flaude.batch_file.shapes.shape import BROKEN, Schema, Shape

__all__ = [
    "BROKEN",
    "Duration",
    "Either",
    "Field",
    "Fields",
    "Flag",
    "JsonObject",
    "ListOf",
    "MapOf",
    "Nullable",
    "Number",
    "OrColumn",
    "Reference",
    "Schema",
    "Secret",
    "Section",
    "Shape",
    "Text",
]
