"""ASP.NET route templates, as the Functions host matches them: `rooms/{id:guid}/events/{page:int?}`, `{*rest}`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID


class BadTemplate(ValueError):
    """The template cannot be read."""


Constraint = Callable[[str], bool]

_PARAMETER = re.compile(
    r"""\{(?P<stars>\*{0,2})
    (?P<name>[^:=?{}*/]+)
    (?P<constraints>(?::[a-z]+(?:\((?:[^{}]|\{\{|\}\})*?\)(?=[:=?}]))?)*)
    (?:=(?P<default>[^?{}]*))?
    (?P<optional>\?)?\}""",
    re.VERBOSE,
)
_CONSTRAINT = re.compile(r":(?P<kind>[a-z]+)(?:\((?P<argument>.*?)\)(?=$|:))?")
_PIECE = re.compile(r"\{\{|\}\}|(?P<parameter>\{(?:[^{}]|\{\{|\}\})+\})|[^{}]")


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII) else None


def _between(low: float, high: float) -> Constraint:
    def holds(text: str) -> bool:
        number = _number(text)
        return number is not None and low <= number <= high

    return holds


def _long(low: float, high: float) -> Constraint:
    return lambda text: low <= len(text) <= high


def _is_guid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return re.fullmatch(r"[{(]?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}[)}]?", text, re.IGNORECASE) is not None


def _constraint(kind: str, argument: str | None) -> Constraint:
    numbers = [_number(part) for part in (argument or "").split(",")]
    match (kind, numbers):
        case ("int", [None]) if argument is None:
            return _between(-(2**31), 2**31 - 1)
        case ("long", [None]) if argument is None:
            return _between(-(2**63), 2**63 - 1)
        case ("guid", [None]) if argument is None:
            return _is_guid
        case ("alpha", [None]) if argument is None:
            return lambda text: re.fullmatch("[a-z]*", text, re.IGNORECASE | re.ASCII) is not None
        case ("length", [int(exact)]):
            return _long(exact, exact)
        case ("length", [int(low), int(high)]):
            return _long(low, high)
        case ("minlength", [int(low)]):
            return _long(low, float("inf"))
        case ("maxlength", [int(high)]):
            return _long(0, high)
        case ("min", [int(low)]):
            return _between(low, float("inf"))
        case ("max", [int(high)]):
            return _between(float("-inf"), high)
        case ("range", [int(low), int(high)]):
            return _between(low, high)
        case ("regex", _) if argument:
            pattern = re.compile(argument.replace("{{", "{").replace("}}", "}"), re.IGNORECASE)
            return lambda text: pattern.search(text) is not None
    raise BadTemplate(f"the constraint '{kind}' is unknown or its argument is wrong")


@dataclass(frozen=True)
class _Parameter:
    name: str
    constraints: tuple[Constraint, ...]
    default: str | None


@dataclass(frozen=True)
class Template:
    """A compiled template; `text` is how it was written."""

    text: str
    _pattern: re.Pattern[str]
    _parameters: tuple[_Parameter, ...]

    @classmethod
    def compile(cls, text: str) -> "Template":
        parameters: list[_Parameter] = []
        segments = text.split("/") if text else []
        patterns = [_segment(each, parameters, last=each is segments[-1]) for each in segments]
        names = [each.name.lower() for each in parameters]
        if len(names) != len(set(names)):
            raise BadTemplate(f"the route '{text}' names a parameter twice")
        return cls(text, re.compile("".join(patterns) + "/?", re.IGNORECASE), tuple(parameters))

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters found in a decoded path that begins with a slash, or None."""
        found = self._pattern.fullmatch(path)
        if found is None:
            return None
        values: dict[str, str] = {}
        for parameter, value in zip(self._parameters, found.groups(), strict=True):
            if value and not all(holds(value) for holds in parameter.constraints):
                return None
            if value or parameter.default is not None:
                values[parameter.name] = value or parameter.default or ""
        return values


def _segment(text: str, parameters: list[_Parameter], *, last: bool) -> str:
    pieces = list(_PIECE.finditer(text))
    if not text or "".join(piece[0] for piece in pieces) != text:
        raise BadTemplate(f"the route segment '{text}' cannot be read")
    pattern = ""
    for piece in pieces:
        if piece["parameter"] is None:
            pattern += re.escape(piece[0].replace("{{", "{").replace("}}", "}"))
            continue
        found = _PARAMETER.fullmatch(piece[0])
        if found is None:
            raise BadTemplate(f"the route parameter '{piece[0]}' cannot be read")
        rules = tuple(
            _constraint(each["kind"], each["argument"]) for each in _CONSTRAINT.finditer(found["constraints"])
        )
        parameters.append(_Parameter(found["name"], rules, found["default"]))
        may_miss = found["stars"] or found["optional"] or found["default"] is not None
        if may_miss and not (last and len(pieces) == 1):
            raise BadTemplate(f"the route parameter '{piece[0]}' must be the last segment")
        if found["stars"]:
            return "(?:/(.*))?"
        if may_miss:
            return "(?:/([^/]+))?"
        pattern += "([^/]+?)"
    return "/" + pattern
