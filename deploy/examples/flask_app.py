# SPDX-License-Identifier: MIT
"""Flask in front of Adwuma: jobs go into Redis, results and streams come back from there.

    gunicorn --threads 64 flask_app:app

A request that waits and a stream that is open hold a thread and a connection each, so there are as many threads as may wait at once."""
import json
import os
import pathlib
import re
import time
import uuid

import redis
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

WAIT_S = float(os.environ.get("WAIT_S", 20))  # how long a request waits for its result
KEEPALIVE_S = float(os.environ.get("KEEPALIVE_S", 15))  # silence after which a stream says that it is still there, and learns whether its reader is
STREAM_S = 300  # a browser comes back by itself and goes on where it was; nobody holds a thread for ever
MAX_BODY = 1 << 20
# What may be asked for from outside, and with which fields: no paths, no reply lists, nothing that deletes.
FIELDS = {"translate": {"text", "language_pair"}, "transcribe": {"audio_base64", "language", "timestamps"},
          "synthesize": {"text", "language", "speaker", "format"}, "taskingai.chat_completion": {"params"}}
PAGE = pathlib.Path(__file__).with_name("chat.html").read_text(encoding="utf-8")

app = Flask(__name__)
# A connection that broke is made anew for the next command. The time-out is for a Redis that hangs, so it is longer than we ever block.
store = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), decode_responses=True,
                             socket_connect_timeout=3, socket_timeout=max(WAIT_S, KEEPALIVE_S) + 5)


class Fault(Exception):
    """What the client is told instead of an answer."""


def told(status, kind, message):
    return {"error": {"type": kind, "message": message, "status_code": status}}, status


@app.errorhandler(Fault)
def fault(e):
    return told(*e.args)


@app.errorhandler(HTTPException)
def http_fault(e):
    return told(e.code, e.name.replace(" ", ""), e.description)


@app.errorhandler(redis.RedisError)
def redis_fault(e):
    app.logger.warning("Redis: %s", e)
    return told(503, "Unavailable", "The queue cannot be reached; please try again")


def body():
    if request.mimetype != "application/json":  # which no page of another site may send in its visitor's name
        raise Fault(415, "UnsupportedMediaType", "application/json is needed")
    raw = request.stream.read(MAX_BODY + 1)
    if len(raw) > MAX_BODY:
        raise Fault(413, "TooLarge", f"More than {MAX_BODY} bytes")
    try:
        found = json.loads(raw)
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


@app.post("/translate")
def translate():
    found = {"pair": "en-tw", **body()}
    strings(found, "text", "pair")
    job_id = submit("translate", {"text": found["text"], "language_pair": found["pair"]})
    try:
        result = store.blmove(key(job_id, "result"), key(job_id, "result"), WAIT_S, "LEFT", "LEFT")
    except redis.RedisError:
        result = None  # the job was accepted: it can be asked for later
    if not result:
        return {"id": job_id}, 202
    result = json.loads(result)
    if result["status"] == "failed":
        return {"error": result["error"]}, status_of(result["error"])
    return {"text": result["result"]["text"]}


@app.post("/jobs")
def jobs():
    fields = body()
    kind = fields.pop("type", None)
    allowed = FIELDS.get(kind) if isinstance(kind, str) else None
    if allowed is None or not fields.keys() <= allowed:
        raise Fault(400, "BadRequest", f"{kind}: fields are {sorted(allowed)}" if allowed else f"type: one of {', '.join(FIELDS)}")
    return {"id": submit(kind, fields)}, 202


@app.get("/jobs/<job_id>")
def job(job_id):
    result = store.lindex(key(job_id, "result"), 0)
    return Response(result, mimetype="application/json") if result else ({"id": job_id}, 202)


@app.delete("/jobs/<job_id>")
def cancel(job_id):
    store.zadd(key(job_id, "cancelled"), {job_id: int(time.time() * 1000)})
    return {"id": job_id}, 202


@app.post("/chat")
def chat():
    found = body()
    strings(found, "model", "message")
    messages = [{"role": "user", "content": found["message"]}]
    return {"id": submit("taskingai.chat_completion", {"params": {"model_id": found["model"], "messages": messages, "stream": True}})}, 202


@app.get("/chat/<job_id>/events")
def events(job_id):
    # A browser that comes back sends the header, while its URL is the old one.
    stream, last = key(job_id, "stream"), request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or "0-0"
    if not re.fullmatch("[0-9]{1,15}-[0-9]{1,15}", last):
        raise Fault(400, "BadRequest", "Last-Event-ID: an id of this stream is needed")
    newest = store.xrevrange(stream, count=1)
    if newest and newest[0][0] == last and newest[0][1]["event"] in ("done", "error"):
        return "", 204  # all was told; to a browser this says not to come again
    return Response(follow(stream, key(job_id, "result"), last), mimetype="text/event-stream",
                    headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


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
        app.logger.warning("Redis: %s", e)  # the browser comes back


@app.get("/")
def page():
    return PAGE
