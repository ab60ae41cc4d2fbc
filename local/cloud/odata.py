"""Query options of OData as Graph's directory understands them: $select, $filter, page tokens."""

import re
from collections.abc import Callable
from typing import Any

from local.cloud.protocol import Call, Refused

Properties = dict[str, Any]
Test = Callable[[Properties], bool]

# Learn: Advanced query capabilities on Microsoft Entra ID objects, properties of user.
ADVANCED_PROPERTIES = {"mobilePhone", "companyName", "city", "officeLocation", "businessPhones"}
COUNTED = {"assignedLicenses/$count"}
_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<mark>[(),])|(?P<word>[^\s(),']+))")


def unsupported(message: str) -> Refused:
    return Refused(400, "Request_UnsupportedQuery", message)


def bad(message: str) -> Refused:
    return Refused(400, "Request_BadRequest", message)


def selected(call: Call, knows: Callable[[str], bool], type_name: str) -> list[str] | None:
    """The properties that $select names, None where it is absent; Refused for unknown ones."""
    if "$select" not in call.query:
        return None
    names = [name.strip() for name in call.query["$select"].split(",")]
    for name in names:
        if not knows(name):
            message = f"Parsing OData Select and Expand failed: Could not find a property named '{name}' on type"
            raise Refused(400, "BadRequest", f"{message} 'microsoft.graph.{type_name}'.")
    return list(dict.fromkeys(names))


def refuse_options(call: Call, names: set[str]) -> None:
    for name in sorted(names & set(call.query)):
        raise unsupported(f"The query parameter '{name}' is not supported by this resource.")


class Filter:
    """A parsed $filter. `advanced` says that Graph serves it only with eventual consistency and $count."""

    def __init__(self, text: str, known: frozenset[str]) -> None:
        self._tokens = _split(text)
        self._known = known
        self.advanced = False
        self.test = self._either()
        if self._tokens:
            raise bad("Invalid filter clause.")

    def _either(self) -> Test:
        tests = [self._both()]
        while self._take("or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda user: any(test(user) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._take("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda user: all(test(user) for test in tests)

    def _one(self) -> Test:
        if self._take("not"):
            self.advanced = True
            denied = self._one()
            return lambda user: not denied(user)
        if self._take("("):
            inner = self._either()
            self._expect(")")
            return inner
        if self._take("startsWith") or self._take("startswith"):
            return self._affix(str.startswith)
        if self._take("endsWith") or self._take("endswith"):
            self.advanced = True
            return self._affix(str.endswith)
        return self._comparison()

    def _affix(self, holds: Callable[[str, str], bool]) -> Test:
        self._expect("(")
        name = self._property()
        self._expect(",")
        affix = self._value()
        self._expect(")")
        if not isinstance(affix, str):
            raise bad("Invalid filter clause.")
        return lambda user: holds(str(user.get(name) or "").lower(), affix.lower())

    def _comparison(self) -> Test:
        name = self._property()
        operator = self._next()
        if operator == "in":
            return self._membership(name)
        value = _folded(self._value())
        if value is None and name == "userType":
            self.advanced = True
        if operator == "eq":
            return lambda user: _folded(_held(user, name)) == value
        if operator == "ne":
            self.advanced = True
            return lambda user: _folded(_held(user, name)) != value
        raise unsupported(f"Unsupported or invalid query filter clause specified for property '{name}'.")

    def _membership(self, name: str) -> Test:
        self._expect("(")
        values = [_folded(self._value())]
        while self._take(","):
            values.append(_folded(self._value()))
        self._expect(")")
        return lambda user: _folded(_held(user, name)) in values

    def _property(self) -> str:
        name = self._next()
        if name not in self._known | COUNTED:
            raise unsupported(f"Unsupported or invalid query filter clause specified for property '{name}'.")
        if name in ADVANCED_PROPERTIES | COUNTED:
            self.advanced = True
        return name

    def _value(self) -> str | int | None:
        token = self._next()
        if token.isdecimal():
            return int(token)
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        literals = {"true": True, "false": False, "null": None}
        if token not in literals:
            raise bad("Invalid filter clause.")
        return literals[token]

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise bad("Invalid filter clause.")

    def _next(self) -> str:
        if not self._tokens:
            raise bad("Invalid filter clause.")
        return self._tokens.pop(0)


def _split(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise bad("Invalid filter clause.")
        tokens.append(found[0].strip())
        position = found.end()
    return tokens


def _held(properties: Properties, name: str) -> Any:
    """A property, or how many there are of it."""
    if name in COUNTED:
        return len(properties.get(name.removesuffix("/$count")) or [])
    return properties.get(name)


def _folded(value: Any) -> Any:
    """Graph compares texts without regard to letter case."""
    return value.lower() if isinstance(value, str) else value
