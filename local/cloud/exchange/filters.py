"""$filter and $orderby on events (Learn: Use the $filter query parameter)."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from local.cloud.exchange.mailbox import Properties
from local.cloud.exchange.zones import MalformedTime, read_instant
from local.cloud.protocol import Refused

Test = Callable[[Properties], bool]
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda held, value: held == value,
    "ne": lambda held, value: held != value,
    "gt": lambda held, value: held > value,
    "ge": lambda held, value: held >= value,
    "lt": lambda held, value: held < value,
    "le": lambda held, value: held <= value,
}
TIMES = {"start/dateTime", "end/dateTime", "createdDateTime", "lastModifiedDateTime"}
TEXTS = {"iCalUId", "subject", "importance", "sensitivity", "showAs", "type", "seriesMasterId", "id"}
TRUTHS = {"isAllDay", "isCancelled", "isOrganizer", "isReminderOn", "hasAttachments", "isOnlineMeeting"}
PATHS = {"organizer/emailAddress/address": ("organizer", "emailAddress", "address")}
_TOKEN = re.compile(r"\s*(?P<token>'(?:[^']|'')*'|[(),]|[^\s(),']+)")
_EXTENDED = re.compile(
    r"singleValueExtendedProperties/any\(\s*(\w+)\s*:\s*\1/id eq '((?:[^']|'')*)'"
    r"(?: and \1/value eq '((?:[^']|'')*)')?\s*\)",
    re.IGNORECASE,
)
_CATEGORY = re.compile(r"categories/any\(\s*(\w+)\s*:\s*\1 eq '((?:[^']|'')*)'\s*\)", re.IGNORECASE)


class Order(NamedTuple):
    name: str
    descending: bool


def read_filter(text: str) -> Test:
    """What $filter asks of an event as `shape.render` shows it in UTC, or Refused."""
    tests: list[Test] = []

    def keep(test: Test) -> str:
        tests.append(test)
        return f" #{len(tests) - 1} "

    plain = _EXTENDED.sub(lambda found: keep(_extended(found[2], found[3])), text)
    plain = _CATEGORY.sub(lambda found: keep(_category(found[2])), plain)
    return _Parser(plain, tests).test


def read_order(text: str) -> Order:
    name, _, direction = text.strip().partition(" ")
    if name not in TIMES | {"subject"} or direction.strip().lower() not in ("", "asc", "desc"):
        raise _wrong(f"The property '{name}' does not support sorting.")
    return Order(name, direction.strip().lower() == "desc")


def held(shown: Properties, name: str) -> Any:
    """A property of a shown event by its path; times come as moments, texts in lower case."""
    value: Any = shown
    for part in PATHS.get(name, tuple(name.split("/"))):
        value = value.get(part) if isinstance(value, dict) else None
    if name in TIMES:
        return read_instant(value)
    return value.lower() if isinstance(value, str) and name != "id" else value


def _extended(prop_id: str, value: str | None) -> Test:
    wanted = value.replace("''", "'").lower() if value is not None else None
    return lambda shown: any(
        each["id"] == prop_id.replace("''", "'") and wanted in (None, str(each["value"]).lower())
        for each in shown["singleValueExtendedProperties"]
    )


def _category(name: str) -> Test:
    return lambda shown: name.replace("''", "'") in shown["categories"]


class _Parser:
    def __init__(self, text: str, tests: list[Test]) -> None:
        self._tokens = self._split(text)
        self._tests = tests
        self.test = self._either()
        if self._tokens:
            raise _wrong()

    @staticmethod
    def _split(text: str) -> list[str]:
        tokens, position = [], 0
        text = text.strip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if not found:
                raise _wrong()
            tokens.append(found["token"])
            position = found.end()
        return tokens

    def _either(self) -> Test:
        tests = [self._both()]
        while self._take("or"):
            tests.append(self._both())
        return lambda shown: any(test(shown) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._take("and"):
            tests.append(self._one())
        return lambda shown: all(test(shown) for test in tests)

    def _one(self) -> Test:
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise _wrong()
            return inner
        name = self._next()
        if name.startswith("#"):
            return self._tests[int(name[1:])]
        if name.lower() == "startswith":
            return self._prefix()
        operator, value = self._next(), self._value(name)
        if operator not in ORDERS or (name not in TIMES and operator not in ("eq", "ne")):
            raise _wrong()
        compare = ORDERS[operator]
        return lambda shown: compare(held(shown, name), value)

    def _prefix(self) -> Test:
        opened, name, comma, text, closed = (self._next() for _ in range(5))
        if (opened, comma, closed, name) != ("(", ",", ")", "subject") or not text.startswith("'"):
            raise _wrong()
        prefix = _text(text).lower()
        return lambda shown: str(held(shown, name)).startswith(prefix)

    def _value(self, name: str) -> str | bool | datetime | None:
        token = self._next()
        if name in TIMES:
            try:
                return read_instant(_text(token))
            except MalformedTime as error:
                raise _wrong() from error
        if name in TRUTHS and token in ("true", "false"):
            return token == "true"
        if name in TEXTS | set(PATHS):
            if token == "null":
                return None
            return _text(token) if name == "id" else _text(token).lower()
        raise _wrong(f"The property '{name}' does not support filtering.")

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0].lower() == token:
            self._tokens.pop(0)
            return True
        return False

    def _next(self) -> str:
        if not self._tokens:
            raise _wrong()
        return self._tokens.pop(0)


def _text(token: str) -> str:
    return token[1:-1].replace("''", "'") if token.startswith("'") else token


def _wrong(message: str = "Invalid filter clause.") -> Refused:
    return Refused(400, "ErrorInvalidUrlQueryFilter", message)
