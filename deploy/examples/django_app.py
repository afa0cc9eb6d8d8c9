# SPDX-License-Identifier: MIT
"""Django in front of Adwuma, in one file: jobs go into Redis, results and streams come back from there.

    gunicorn --threads 64 django_app:application

A request that waits and a stream that is open hold a thread and a connection each, so there are as many threads as may wait at once."""
import json
import logging
import os
import pathlib
import re
import time
import uuid

import redis
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

WAIT_S = float(os.environ.get("WAIT_S", 20))  # how long a request waits for its result
KEEPALIVE_S = float(os.environ.get("KEEPALIVE_S", 15))  # silence after which a stream says that it is still there, and learns whether its reader is
STREAM_S = 300  # a browser comes back by itself and goes on where it was; nobody holds a thread for ever
# What may be asked for from outside, and with which fields: no paths, no reply lists, nothing that deletes.
FIELDS = {"translate": {"text", "language_pair"}, "transcribe": {"audio_base64", "language", "timestamps"},
          "synthesize": {"text", "language", "speaker", "format"}, "taskingai.chat_completion": {"params"}}
PAGE = pathlib.Path(__file__).with_name("chat.html").read_text(encoding="utf-8")

# Nothing here knows a session or a cookie, so there is neither a secret key nor a CSRF token; with your login come both.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(","),
                   MIDDLEWARE=[__name__ + ".faults"], DATA_UPLOAD_MAX_MEMORY_SIZE=1 << 20, LOGGING_CONFIG=None)
log = logging.getLogger("gunicorn.error")
# A connection that broke is made anew for the next command. The time-out is for a Redis that hangs, so it is longer than we ever block.
store = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), decode_responses=True,
                             socket_connect_timeout=3, socket_timeout=max(WAIT_S, KEEPALIVE_S) + 5)


class Fault(Exception):
    """What the client is told instead of an answer."""


def told(status, kind, message):
    return JsonResponse({"error": {"type": kind, "message": message, "status_code": status}}, status=status)


class faults:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, e):
        if isinstance(e, Fault):
            return told(*e.args)
        if isinstance(e, redis.RedisError):
            log.warning("Redis: %s", e)
            return told(503, "Unavailable", "The queue cannot be reached; please try again")


def body(request):
    if request.content_type.lower() != "application/json":  # which no page of another site may send in its visitor's name
        raise Fault(415, "UnsupportedMediaType", "application/json is needed")
    try:
        found = json.loads(request.body)
    except RequestDataTooBig:
        raise Fault(413, "TooLarge", f"More than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Fault(400, "BadRequest", "The body is no JSON object")
    return found


def strings(found, *names):
    for name in names:
        if not isinstance(found.get(name), str):
            raise Fault(400, "BadRequest", f"{name}: a string is needed")


def submit(kind, fields):
    """The id begins with the queue's name, so it tells where to look for the result."""
    queue = kind.split(".")[0]
    job_id = f"{queue}.{uuid.uuid4()}"
    try:
        job = json.dumps({**fields, "id": job_id, "type": kind, "enqueued_at_ms": int(time.time() * 1000)}, allow_nan=False)
    except (ValueError, RecursionError):  # NaN, infinite numbers: Python reads them, and nobody else does
        raise Fault(400, "BadRequest", "The fields cannot be written as JSON")
    store.lpush(f"adwuma:{{{queue}}}:ready", job)
    return job_id


def key(job_id, kind):
    """The name of what belongs to a job; an id that cannot be one of ours never comes near Redis."""
    queue = job_id.split(".")[0]
    if not re.fullmatch("[A-Za-z0-9._:-]{1,128}", job_id) or queue not in {k.split(".")[0] for k in FIELDS}:
        raise Fault(404, "NotFound", "No such id")
    return f"adwuma:{{{queue}}}:{kind}" + ("" if kind == "cancelled" else f":{job_id}")


def status_of(error):
    """Whose fault it is: the client's, nobody's for long, or ours. A refused API key is ours, so a 401 of the API is none for the browser."""
    if error["type"] == "InvalidJobError" or error["status_code"] == 400:
        return 400
    return 409 if error["type"] == "CancelledError" else 503 if error["retryable"] else 502


def translate(request):
    found = {"pair": "en-tw", **body(request)}
    strings(found, "text", "pair")
    job_id = submit("translate", {"text": found["text"], "language_pair": found["pair"]})
    try:
        result = store.blmove(key(job_id, "result"), key(job_id, "result"), WAIT_S, "LEFT", "LEFT")
    except redis.RedisError:
        result = None  # the job was accepted: it can be asked for later
    if not result:
        return JsonResponse({"id": job_id}, status=202)
    result = json.loads(result)
    if result["status"] == "failed":
        return JsonResponse({"error": result["error"]}, status=status_of(result["error"]))
    return JsonResponse({"text": result["result"]["text"]})


def jobs(request):
    fields = body(request)
    kind = fields.pop("type", None)
    allowed = FIELDS.get(kind) if isinstance(kind, str) else None
    if allowed is None or not fields.keys() <= allowed:
        raise Fault(400, "BadRequest", f"{kind}: fields are {sorted(allowed)}" if allowed else f"type: one of {', '.join(FIELDS)}")
    return JsonResponse({"id": submit(kind, fields)}, status=202)


def job(request, job_id):
    result = store.lindex(key(job_id, "result"), 0)
    return HttpResponse(result, content_type="application/json") if result else JsonResponse({"id": job_id}, status=202)


def cancel(request, job_id):
    store.zadd(key(job_id, "cancelled"), {job_id: int(time.time() * 1000)})
    return JsonResponse({"id": job_id}, status=202)


def chat(request):
    found = body(request)
    strings(found, "model", "message")
    messages = [{"role": "user", "content": found["message"]}]
    params = {"model_id": found["model"], "messages": messages, "stream": True}
    return JsonResponse({"id": submit("taskingai.chat_completion", {"params": params})}, status=202)


def events(request, job_id):
    # A browser that comes back sends the header, while its URL is the old one.
    stream, last = key(job_id, "stream"), request.headers.get("Last-Event-ID") or request.GET.get("last_event_id") or "0-0"
    if not re.fullmatch("[0-9]{1,15}-[0-9]{1,15}", last):
        raise Fault(400, "BadRequest", "Last-Event-ID: an id of this stream is needed")
    newest = store.xrevrange(stream, count=1)
    if newest and newest[0][0] == last and newest[0][1]["event"] in ("done", "error"):
        return HttpResponse(status=204)  # all was told; to a browser this says not to come again
    answer = StreamingHttpResponse(follow(stream, key(job_id, "result"), last), content_type="text/event-stream")
    answer["Cache-Control"], answer["X-Accel-Buffering"] = "no-store", "no"
    return answer


def follow(stream, result, last):
    began = spoke = time.monotonic()
    yield "retry: 1000\n\n"  # sends the headers, too
    try:
        while time.monotonic() < began + STREAM_S:
            over = store.lindex(result, 0)  # before the stream is read: then the stream is complete
            entries = store.xread({stream: last}, count=100, block=None if over else int(min(KEEPALIVE_S, 2) * 1000))
            for last, entry in entries[0][1] if entries else ():
                yield f"id: {last}\nevent: {entry['event']}\ndata: {entry['data']}\n\n"
                if entry["event"] in ("done", "error"):
                    return
                spoke = time.monotonic()
            if over and not entries:  # a job that does not stream has a result alone
                over = json.loads(over)
                yield f"event: {'error' if 'error' in over else 'done'}\ndata: {json.dumps(over.get('error', over.get('result')))}\n\n"
                return
            if time.monotonic() > spoke + KEEPALIVE_S:
                yield ": still here\n\n"
                spoke = time.monotonic()
    except redis.RedisError as e:
        log.warning("Redis: %s", e)  # the browser comes back


def by_method(**views):
    """One path, and a view for each of its methods."""
    def view(request, **parts):
        if request.method not in views:
            return told(405, "MethodNotAllowed", f"One of {', '.join(views)} is needed")
        return views[request.method](request, **parts)
    return view


urlpatterns = [
    path("translate", by_method(POST=translate)),
    path("jobs", by_method(POST=jobs)),
    path("jobs/<job_id>", by_method(GET=job, DELETE=cancel)),
    path("chat", by_method(POST=chat)),
    path("chat/<job_id>/events", by_method(GET=events)),
    path("", by_method(GET=lambda request: HttpResponse(PAGE))),
]
def handler404(request, exception):
    return told(404, "NotFound", "No such page")


application = get_wsgi_application()
