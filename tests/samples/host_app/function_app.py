"""An app of every kind of function that the local host serves; it tells what it was given."""

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
more = func.Blueprint()  # type: ignore[no-untyped-call] # azure.functions leaves it untyped
log = logging.getLogger("sample")
eight = threading.Barrier(8, timeout=30)


def told(value: object, status_code: int = 200) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(value), status_code=status_code, mimetype="application/json")


def note(name: str, **about: object) -> None:
    """Append to the journal that the test reads."""
    with (Path(os.environ["SAMPLE_JOURNAL"])).open("a") as journal:
        journal.write(json.dumps({"function": name, **about}) + "\n")


@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fine")


@app.route(route="echo/{name}/{id:int?}", methods=["GET", "POST", "HEAD"])
def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return told(
        {
            "method": req.method,
            "url": req.url,
            "params": dict(req.params),
            "route": dict(req.route_params),
            "headers": dict(req.headers),
            "body": req.get_body().decode(),
            "function": context.function_name,
            "invocation": context.invocation_id,
            "trace": context.trace_context.trace_parent,
        }
    )


# By the order of names "anything" is asked before "echo" and "zulu", but for what is not a GET.
@app.route(route="echo/{name}/special", methods=["DELETE"])
def anything(req: func.HttpRequest) -> func.HttpResponse:
    return told("anything", 202)


@more.route(route="files/{*path}")
def files(req: func.HttpRequest) -> func.HttpResponse:
    return told(dict(req.route_params))


@more.route(route="secret", auth_level=func.AuthLevel.ADMIN)
def secret(req: func.HttpRequest) -> func.HttpResponse:
    return told("secret")


@more.route(route="cookies", auth_level=func.AuthLevel.ANONYMOUS)
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse(b"\x00\xff", status_code=404, headers={"X-Own": "yes"}, mimetype="image/jpeg")
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2")
    return response


@more.route(route="broken", auth_level=func.AuthLevel.ANONYMOUS)
def broken(req: func.HttpRequest) -> func.HttpResponse:
    sys.stdout.write("this must not reach the line that the parent reads\n")
    log.info("two\nlines \x1b[31m")
    raise RuntimeError("a text that no caller may see")


@more.route(route="nothing", auth_level=func.AuthLevel.ANONYMOUS)
def nothing(req: func.HttpRequest) -> None:
    """Forgets to answer."""


@more.route(route="slow", auth_level=func.AuthLevel.ANONYMOUS)
def slow(req: func.HttpRequest) -> func.HttpResponse:
    note("slow", at="start")
    time.sleep(0.5)
    return told("done")


@more.route(route="meet", auth_level=func.AuthLevel.ANONYMOUS)
def meet(req: func.HttpRequest) -> func.HttpResponse:
    eight.wait()
    return told("done")


@more.timer_trigger(schedule="%SAMPLE_SCHEDULE%", arg_name="clock")
def tick(clock: func.TimerRequest) -> None:
    note("tick", past_due=clock.past_due, at=time.time())


@more.queue_trigger(arg_name="msg", queue_name="%SAMPLE_QUEUE%", connection="AzureWebJobsStorage")
def work(msg: func.QueueMessage) -> None:
    job = msg.get_json()
    note("work", job=job, attempt=msg.dequeue_count, id=msg.id)
    time.sleep(job.get("seconds", 0))
    if msg.dequeue_count <= job.get("failures", 0):
        raise RuntimeError("as asked")
    note("work", job=job, done=True)


@more.queue_trigger(arg_name="msg", queue_name="%SAMPLE_QUEUE%-poison", connection="AzureWebJobsStorage")
def poison(msg: func.QueueMessage) -> None:
    note("poison", body=msg.get_body().decode(errors="replace"))


app.register_functions(more)
