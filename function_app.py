"""Table of contents: every trigger of the app, and the one line that each comes to."""

import logging

import azure.functions as func

from sync import connections, jobs, subscriptions
from sync.api import NO_SUCH_ROUTE, OPERATIONS
from sync.http import respond
from sync.wiring import app as wired
from sync.wiring import probe

logging.getLogger("azure").setLevel(logging.WARNING)

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_health(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_health"], wired)


@app.route("ready", methods=["GET"])
def get_ready(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_ready"], probe)


@app.route("openapi.json", methods=["GET"])
def get_openapi(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_openapi"], wired)


@app.route("console", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_console(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_console"], wired)


@app.route("connections", methods=["POST"])
def create_connection(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["create_connection"], wired)


@app.route("connections", methods=["GET"])
def list_connections(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_connections"], wired)


@app.route("connections/{name}", methods=["GET"])
def get_connection(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_connection"], wired)


@app.route("connections/{name}", methods=["PATCH"])
def edit_connection(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["edit_connection"], wired)


@app.route("connections/{name}/credential", methods=["PUT"])
def rotate_credential(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["rotate_credential"], wired)


@app.route("connections/{name}", methods=["DELETE"])
def delete_connection(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["delete_connection"], wired)


@app.route("connections/{name}/check", methods=["POST"])
def check_connection(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["check_connection"], wired)


@app.route("connections/{name}/syncs", methods=["GET"])
def list_syncs(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_syncs"], wired)


@app.route("connections/{name}/syncs/{sync}", methods=["GET"])
def get_sync(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_sync"], wired)


@app.route("connections/{name}/syncs/{sync}", methods=["PUT"])
def put_sync(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["put_sync"], wired)


@app.route("connections/{name}/syncs/{sync}/runs", methods=["POST"])
def start_run(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["start_run"], wired)


@app.route("connections/{name}/runs", methods=["GET"])
def list_runs(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_runs"], wired)


@app.route("connections/{name}/runs/{id}", methods=["GET"])
def get_run(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_run"], wired)


@app.route("connections/{name}/runs/{id}/cancel", methods=["POST"])
def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["cancel_run"], wired)


@app.route("connections/{name}/runs/{id}/log", methods=["GET"])
def get_run_log(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_run_log"], wired)


@app.route("connections/{name}/runs/{id}/plan", methods=["GET"])
def get_run_plan(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_run_plan"], wired)


@app.route("connections/{name}/runs/{id}/approve", methods=["POST"])
def approve_run(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["approve_run"], wired)


@app.route("connections/{name}/runs/{id}/reject", methods=["POST"])
def reject_run(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["reject_run"], wired)


@app.route("connections/{name}/users", methods=["GET"])
def list_users(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_users"], wired)


@app.route("connections/{name}/users/{id}", methods=["GET"])
def get_user(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_user"], wired)


@app.route("connections/{name}/users/{id}/photo", methods=["GET"])
def get_photo(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_photo"], wired)


@app.route("connections/{name}/devices", methods=["GET"])
def list_devices(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_devices"], wired)


@app.route("connections/{name}/devices/{id}", methods=["GET"])
def get_device(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_device"], wired)


@app.route("connections/{name}/contacts", methods=["GET"])
def list_contacts(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_contacts"], wired)


@app.route("connections/{name}/contacts/{id}", methods=["GET"])
def get_contact(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_contact"], wired)


@app.route("connections/{name}/contacts", methods=["POST"])
def create_contact(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["create_contact"], wired)


@app.route("connections/{name}/contacts/{id}", methods=["PATCH"])
def edit_contact(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["edit_contact"], wired)


@app.route("connections/{name}/contacts/{id}", methods=["DELETE"])
def delete_contact(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["delete_contact"], wired)


@app.route("connections/{name}/contact-groups", methods=["GET"])
def list_contact_groups(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_contact_groups"], wired)


@app.route("connections/{name}/changes", methods=["GET"])
def list_changes(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_changes"], wired)


@app.route("connections/{name}/places", methods=["GET"])
def list_places(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_places"], wired)


@app.route("connections/{name}/rooms", methods=["GET"])
def list_rooms(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_rooms"], wired)


@app.route("connections/{name}/rooms/{room}", methods=["GET"])
def get_room(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_room"], wired)


@app.route("connections/{name}/rooms/{room}", methods=["PUT"])
def put_room(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["put_room"], wired)


@app.route("connections/{name}/rooms/{room}", methods=["DELETE"])
def delete_room(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["delete_room"], wired)


@app.route("webhooks/graph", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def receive_notifications(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["receive_notifications"], wired)


@app.route("webhooks/graph/lifecycle", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def receive_lifecycle_events(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["receive_lifecycle_events"], wired)


@app.route("connections/{name}/rooms/{room}/reservations", methods=["GET"])
def list_reservations(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["list_reservations"], wired)


@app.route("connections/{name}/rooms/{room}/reservations", methods=["POST"])
def create_reservation(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["create_reservation"], wired)


@app.route("connections/{name}/rooms/{room}/reservations/{id}", methods=["GET"])
def get_reservation(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["get_reservation"], wired)


@app.route("connections/{name}/rooms/{room}/reservations/{id}", methods=["PATCH"])
def edit_reservation(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["edit_reservation"], wired)


@app.route("connections/{name}/rooms/{room}/reservations/{id}", methods=["DELETE"])
def delete_reservation(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req, OPERATIONS["delete_reservation"], wired)


@app.route("{*path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def zz_no_such_route(req: func.HttpRequest) -> func.HttpResponse:  # routes are tried in the order of these names
    return respond(req, NO_SUCH_ROUTE, wired)


@app.timer_trigger("clock", "0 */15 * * * *")
def daily_photo_sync(clock: func.TimerRequest) -> None:  # noqa: ARG001 - the schedule decides, not the tick
    jobs.tick(wired(), "photos")


@app.timer_trigger("clock", "0 */5 * * * *")
def periodic_directory_sync(clock: func.TimerRequest) -> None:  # noqa: ARG001 - the schedule decides, not the tick
    jobs.tick(wired(), "directory")


@app.timer_trigger("clock", "0 */5 * * * *")
def poll_calendars(clock: func.TimerRequest) -> None:  # noqa: ARG001 - the due index decides, not the tick
    jobs.tick(wired(), "calendars")


@app.timer_trigger("clock", "0 17 */6 * * *")
def renew_subscriptions(clock: func.TimerRequest) -> None:  # noqa: ARG001 - their expiries decide, not the tick
    subscriptions.renew_due(wired())


@app.timer_trigger("clock", "0 7 * * * *")
def warn_of_ends(clock: func.TimerRequest) -> None:  # noqa: ARG001 - the due index decides, not the tick
    connections.warn_of_ends(wired())


@app.queue_trigger("message", "sync-runs-manual", "AzureWebJobsStorage")
def run_manual_sync(message: func.QueueMessage) -> None:
    jobs.work(wired(), message.get_json())


@app.queue_trigger("message", "sync-runs", "AzureWebJobsStorage")
def run_scheduled_sync(message: func.QueueMessage) -> None:
    jobs.work(wired(), message.get_json())


@app.queue_trigger("message", "sync-runs-manual-poison", "AzureWebJobsStorage")
def record_poisoned_manual_sync(message: func.QueueMessage) -> None:
    jobs.poisoned(wired(), message.get_json())


@app.queue_trigger("message", "sync-runs-poison", "AzureWebJobsStorage")
def record_poisoned_scheduled_sync(message: func.QueueMessage) -> None:
    jobs.poisoned(wired(), message.get_json())
