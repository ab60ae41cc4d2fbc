"""A folder's functions: found as the Python worker finds them, refused as the host refuses them, and invoked."""

import importlib.util
import inspect
import json
import logging
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any
from uuid import uuid4

import azure.functions as func
from azure.functions import meta

HTTP, TIMER, QUEUE = "httpTrigger", "timerTrigger", "queueTrigger"
_FUNCTION_NAME = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
_BINDING_NAME = re.compile(r"(?!.*__)[a-z][a-z0-9_]{0,127}|\$return", re.IGNORECASE)

logger = logging.getLogger(__name__)
invocation: ContextVar[tuple[str, str]] = ContextVar("invocation", default=("-", "-"))


class Refused(Exception):
    """The host does not start: the app or its settings are not what it can serve."""


@dataclass(frozen=True)
class TraceContext:
    trace_parent: str
    trace_state: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Context:
    """What a function gets in its `context` parameter."""

    function_name: str
    function_directory: str
    invocation_id: str
    trace_context: TraceContext
    retry_context: None = None


@dataclass(frozen=True)
class Function:
    """One function: `trigger` is its binding as function.json would hold it, with app settings filled in."""

    name: str
    trigger: Mapping[str, Any]
    body: Callable[..., Any]
    folder: Path
    wants_context: bool

    def invoke(self, argument: object, headers: Mapping[str, str] | None = None) -> Any:
        """Run it under an invocation id of its own; what it raises is logged and raised again."""
        headers = headers or {}
        trace = TraceContext(headers.get("traceparent", ""), headers.get("tracestate", ""), {})
        context = Context(self.name, str(self.folder), str(uuid4()), trace)
        arguments = {self.trigger["name"]: argument}
        if self.wants_context:
            arguments["context"] = context
        with _logged(context):
            return self.body(**arguments)


@contextmanager
def _logged(context: Context) -> Iterator[None]:
    token = invocation.set((context.function_name, context.invocation_id))
    started = monotonic()
    try:
        yield
    except BaseException:
        logger.exception("Failed after %.0f ms", (monotonic() - started) * 1000)
        raise
    else:
        logger.info("Succeeded after %.0f ms", (monotonic() - started) * 1000)
    finally:
        invocation.reset(token)


def load(folder: Path) -> list[Function]:
    """The functions of the folder's function_app.py, in order of their names, or Refused."""
    apps = {id(value): value for value in _top_level(_module(folder), func.FunctionApp)}
    if len(apps) != 1:
        raise Refused(f"function_app.py must define one FunctionApp under one name; it has {len(apps)}")
    (app,) = apps.values()
    try:
        built = app.get_functions()
    except ValueError as error:
        raise Refused(str(error)) from error
    functions = sorted((_function(each, folder) for each in built), key=lambda each: each.name.lower())
    _refuse_twins(each.name.lower() for each in functions)
    return functions


def _module(folder: Path) -> ModuleType:
    path = folder / "function_app.py"
    spec = importlib.util.spec_from_file_location("function_app", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise Refused(f"there is no function_app.py in {folder}")
    sys.path.insert(0, str(folder))
    module = importlib.util.module_from_spec(spec)
    sys.modules["function_app"] = module
    spec.loader.exec_module(module)
    return module


def _top_level(module: ModuleType, kind: type) -> list[Any]:
    found = [value for value in vars(module).values() if isinstance(value, kind)]
    if len(found) > 1:
        raise Refused("More than one FunctionApp or other top level function app instances are defined")
    return found


def _function(built: Any, folder: Path) -> Function:
    name = built.get_function_name()
    bindings = json.loads(built.get_function_json())["bindings"]
    body = built.get_user_function()
    if not _FUNCTION_NAME.fullmatch(name):
        raise Refused(f"'{name}' is not a valid function name")
    if built.get_settings_dict("retry_policy") or inspect.iscoroutinefunction(body):
        raise Refused(f"{name}: retry policies and async functions are not served here")
    triggers = [each for each in bindings if each["type"] in (HTTP, TIMER, QUEUE)]
    others = [each for each in bindings if each not in triggers and each["type"] != "http"]
    if len(triggers) != 1 or others:
        raise Refused(f"{name}: only HTTP, timer and queue triggers without further bindings are served here")
    _check_parameters(name, body, [each["name"] for each in bindings], triggers[0])
    trigger = {key: _resolve(name, value) for key, value in triggers[0].items()}
    return Function(name, trigger, body, folder, "context" in inspect.signature(body).parameters)


def _check_parameters(name: str, body: Callable[..., Any], bindings: list[str], trigger: Mapping[str, Any]) -> None:
    for binding in bindings:
        if not _BINDING_NAME.fullmatch(binding):
            raise Refused(f"{name}: '{binding}' is not a valid binding name")
    _refuse_twins(bindings)
    parameters = set(inspect.signature(body).parameters) - {"context"}
    if missing := set(bindings) - {"$return"} - parameters:
        raise Refused(f"{name}: these bindings have no parameter: {', '.join(sorted(missing))}")
    if extra := parameters - set(bindings):
        raise Refused(f"{name}: these parameters have no binding: {', '.join(sorted(extra))}")
    annotation = typing.get_type_hints(body).get(trigger["name"])
    converters = meta.get_binding_registry()  # type: ignore[no-untyped-call] # azure.functions leaves it untyped
    converter = converters.get(trigger["type"])
    if annotation is not None and not (
        isinstance(annotation, type) and converter.check_input_type_annotation(annotation)
    ):
        raise Refused(f"{name}: the annotation of '{trigger['name']}' does not fit a {trigger['type']}")


def _resolve(name: str, value: object) -> object:
    """`%SETTING%` becomes that app setting."""

    def setting(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise Refused(f"{name}: the app setting '{match[1]}' is missing")
        return os.environ[match[1]]

    return re.sub("%([^%]+)%", setting, value) if isinstance(value, str) else value


def _refuse_twins(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Refused(f"the name '{name}' is used twice")
        seen.add(name)
