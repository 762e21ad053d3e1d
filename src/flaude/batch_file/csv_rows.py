"""CSV to rows of columns."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from flaude.batch_file.nodes import Place
from flaude.batch_file.problems import Problems, refusal, shown


@dataclass(frozen=True, slots=True)
class Row:
    """One row of data: the texts of its columns, and where it begins."""

    values: dict[str, str]
    place: Place


def read_csv(text: str, file: str, problems: Problems) -> list[Row]:
    """The rows below the line of the columns' names; blank lines are nothing.

    Raises:
        BatchFileError: It is no CSV, or has no usable names; rows that do not fit go to `problems`.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    rows: list[Row] = []
    line = 1
    try:
        for cells in reader:
            place, line = Place(file, line, 1), reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _columns(cells, place, problems)
            elif len(cells) != len(columns):
                problems.add(
                    place, "", f"has {_cells(len(cells))}, the first line has {len(columns)} columns{_why(cells)}"
                )
            else:
                rows.append(Row(dict(zip(columns, cells, strict=True)), place))
    except csv.Error as error:
        raise refusal(Place(file, max(line, reader.line_num), 1), f"no CSV: {error}") from None
    if not rows and not problems:
        raise refusal(Place(file, line, 1), "no rows; the first line names the columns, and each line below is a task")
    return rows


def _columns(cells: list[str], place: Place, problems: Problems) -> list[str]:
    columns = [cell.strip() for cell in cells]
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        raise refusal(place, "one column; columns are separated by commas, here it seems to be another character")
    for index, column in enumerate(columns):
        if not column:
            problems.add(place, "", f"column {index + 1} has no name; name every column in the first line")
        elif column in columns[:index]:
            problems.add(place, "", f"the column {shown(column)} is there twice; rename one of them")
    return columns


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _why(cells: list[str]) -> str:
    return '; a cell with a comma in it goes in double quotes: "a, b"' if cells else ""
