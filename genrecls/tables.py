"""CSV as this tool writes it: comma, a line feed behind each row, quotes only where they are needed."""

import csv
import io
from collections.abc import Iterable


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """The rows as CSV that reads back as the same cells, whatever characters are in them.

    Python's csv module leaves a carriage return without quotes where rows end with a line feed, and takes it for the
    end of a row when it reads that. So rows are made to end with both, and the carriage return before the line feed is
    taken off again.
    """
    parts = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)
        parts.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(parts)
