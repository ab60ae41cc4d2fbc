"""How the demo prints: indented, wrapped and aligned, for a terminal of 100 columns."""

import textwrap
from collections.abc import Iterator, Sequence

WIDTH = 100


def say(text: str) -> None:
    """Print it indented, wrapped under its own beginning."""
    hanging = " " * (len(text) - len(text.lstrip()) + 3)
    print(textwrap.fill(text, WIDTH, initial_indent="   ", subsequent_indent=hanging, break_long_words=False))


def table(rows: Sequence[Sequence[str]], words: int = 1) -> Iterator[str]:
    """Aligned lines: the first columns, so many as are `words`, to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
