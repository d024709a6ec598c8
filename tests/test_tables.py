"""CSV reads back as what was written, whatever is in its cells."""

import csv
import io

from genrecls.reading import csv_rows
from genrecls.tables import csv_text

NASTY = ["a\rb", "a\nb", "a\r\nb", "\r", 'say "no"', "a,b", " a ", "", "é\u2028\x85", "\t"]


def test_whatever_is_in_a_cell_reads_back() -> None:
    rows = [["clip", "genre"], *([each, each] for each in NASTY)]
    assert csv_rows(csv_text(rows).encode()) == rows
    assert csv_rows(csv_text([[""], *([each] for each in NASTY)]).encode()) == [[""], *([each] for each in NASTY)]


def test_plain_rows_are_written_as_before() -> None:
    rows: list[list[object]] = [["clip", "first"], ["a b", 1], ["é, ü", 0.5], ["", None], ['"', "x\ny"]]
    before = io.StringIO()
    csv.writer(before, lineterminator="\n").writerows(rows)
    assert csv_text(rows) == before.getvalue()
    assert csv_text([]) == ""
