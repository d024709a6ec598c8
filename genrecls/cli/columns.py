"""Columns of text, as commands print them."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """A line for each row, columns as wide as their widest cell, two spaces apart.

    rows: of as many cells each; the first is the heads. right: heads of the columns that are aligned to the right.
    """
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(rows[0], row, wide, strict=True)
        ).rstrip()
        for row in rows
    ]
