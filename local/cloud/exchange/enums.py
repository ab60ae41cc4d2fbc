"""Names of enumerations, which Graph reads whatever their letter case."""

from collections.abc import Iterable
from typing import Any


def canonical(value: Any, names: Iterable[str]) -> Any:
    """The name as the type has it; None for what is no name of it."""
    if not isinstance(value, str):
        return None
    return next((name for name in names if name.lower() == value.lower()), None)
