# SPDX-License-Identifier: MIT
"""FastAPI in front of Adwuma: jobs go into Redis, results and streams come back from there.

    uvicorn fastapi_app:app

However many requests wait, one connection collects for all of them: their jobs name a reply list of this process. An open stream has its own."""
import asyncio
import contextlib
import json
import logging
import os
import pathlib
import re
import time
import uuid

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from redis import asyncio as aioredis
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
WAIT_S = float(os.environ.get("WAIT_S", 20))  # how long a request waits for its result
KEEPALIVE_S = float(os.environ.get("KEEPALIVE_S", 15))  # silence after which a stream says that it is still there
STREAM_S = 300  # a browser comes back by itself and goes on where it was; nobody holds a connection for ever
MAX_STREAMS, MAX_BODY = 1000, 1 << 20
# What may be asked for from outside, and with which fields: no paths, no reply lists, nothing that deletes.
FIELDS = {"translate": {"text", "language_pair"}, "transcribe": {"audio_base64", "language", "timestamps"},
          "synthesize": {"text", "language", "speaker", "format"}, "taskingai.chat_completion": {"params"}}
PAGE = pathlib.Path(__file__).with_name("chat.html").read_text(encoding="utf-8")

log = logging.getLogger("uvicorn.error")
app = FastAPI()
# A connection that broke is made anew for the next command. The time-out is for a Redis that hangs, so it is longer than we ever block.
limits = {"decode_responses": True, "socket_connect_timeout": 3, "socket_timeout": 10}
store = aioredis.Redis(connection_pool=aioredis.BlockingConnectionPool.from_url(REDIS_URL, max_connections=8, timeout=5, **limits))
reply = f"web-{uuid.uuid4()}"
waiting = {}  # id of a job: the future of the request that waits for it
streams = set()


def settle(raw):
    result = json.loads(raw)
    future = waiting.get(result["id"])
    if future and not future.done():
        future.set_result(result)


async def collect():
    """Takes results from the reply list. One that was lost with a connection is still under its own key, so those are looked up after each fault."""
    while True:
        try:
            for job_id in list(waiting):
                if raw := await store.lindex(key(job_id, "result"), 0):
                    settle(raw)
            while True:
                if found := await store.blpop(f"adwuma:{{translate}}:reply:{reply}", 5):
                    settle(found[1])
        except Exception as e:  # whatever it was, nobody else would collect
            log.warning("collecting: %r", e)
            await asyncio.sleep(0.2)


@app.on_event("startup")
async def begin():
    app.state.collector = asyncio.create_task(collect())


@app.on_event("shutdown")
async def end():
    app.state.collector.cancel()


class Fault(Exception):
    """What the client is told instead of an answer."""


def told(status, kind, message):
    return JSONResponse({"error": {"type": kind, "message": message, "status_code": status}}, status)


@app.exception_handler(Fault)
async def fault(_, e):
    return told(*e.args)


@app.exception_handler(HTTPException)
async def http_fault(_, e):
    return told(e.status_code, e.detail.replace(" ", ""), e.detail)


@app.exception_handler(RedisError)
async def redis_fault(_, e):
    log.warning("Redis: %s", e)
    return told(503, "Unavailable", "The queue cannot be reached; please try again")


async def body(request: Request):
    if request.headers.get("Content-Type", "").split(";")[0].lower() != "application/json":  # which no page of another site may send in its visitor's name
        raise Fault(415, "UnsupportedMediaType", "application/json is needed")
    raw = b""
    async for piece in request.stream():
        raw += piece
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


def new_id(kind):
    """It begins with the queue's name, so it tells where to look for the result."""
    return f"{kind.split('.')[0]}.{uuid.uuid4()}"


async def submit(job_id, kind, fields):
    try:
        job = json.dumps({**fields, "id": job_id, "type": kind, "enqueued_at_ms": int(time.time() * 1000)}, allow_nan=False)
    except (ValueError, RecursionError):  # NaN, infinite numbers: Python reads them, and nobody else does
        raise Fault(400, "BadRequest", "The fields cannot be written as JSON")
    await store.lpush(f"adwuma:{{{kind.split('.')[0]}}}:ready", job)


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
async def translate(found=Depends(body)):
    found = {"pair": "en-tw", **found}
    strings(found, "text", "pair")
    job_id = new_id("translate")
    waiting[job_id] = asyncio.get_running_loop().create_future()  # before the job is there, so that no result is too early
    try:
        await submit(job_id, "translate", {"text": found["text"], "language_pair": found["pair"], "reply": reply})
        result = await asyncio.wait_for(waiting[job_id], WAIT_S)
    except asyncio.TimeoutError:
        return JSONResponse({"id": job_id}, 202)
    finally:
        del waiting[job_id]
    if result["status"] == "failed":
        return JSONResponse({"error": result["error"]}, status_of(result["error"]))
    return {"text": result["result"]["text"]}


@app.post("/jobs")
async def jobs(fields=Depends(body)):
    kind = fields.pop("type", None)
    allowed = FIELDS.get(kind) if isinstance(kind, str) else None
    if allowed is None or not fields.keys() <= allowed:
        raise Fault(400, "BadRequest", f"{kind}: fields are {sorted(allowed)}" if allowed else f"type: one of {', '.join(FIELDS)}")
    job_id = new_id(kind)
    await submit(job_id, kind, fields)
    return JSONResponse({"id": job_id}, 202)


@app.get("/jobs/{job_id}")
async def job(job_id: str):
    result = await store.lindex(key(job_id, "result"), 0)
    return Response(result, media_type="application/json") if result else JSONResponse({"id": job_id}, 202)


@app.delete("/jobs/{job_id}")
async def cancel(job_id: str):
    await store.zadd(key(job_id, "cancelled"), {job_id: int(time.time() * 1000)})
    return JSONResponse({"id": job_id}, 202)


@app.post("/chat")
async def chat(found=Depends(body)):
    strings(found, "model", "message")
    job_id, messages = new_id("taskingai"), [{"role": "user", "content": found["message"]}]
    await submit(job_id, "taskingai.chat_completion", {"params": {"model_id": found["model"], "messages": messages, "stream": True}})
    return JSONResponse({"id": job_id}, 202)


@app.get("/chat/{job_id}/events")
async def events(job_id: str, request: Request):
    # A browser that comes back sends the header, while its URL is the old one.
    stream = key(job_id, "stream")
    last = request.headers.get("Last-Event-ID") or request.query_params.get("last_event_id") or "0-0"
    if not re.fullmatch("[0-9]{1,15}-[0-9]{1,15}", last):
        raise Fault(400, "BadRequest", "Last-Event-ID: an id of this stream is needed")
    if len(streams) >= MAX_STREAMS:
        raise Fault(503, "Unavailable", "Too many streams are open; please try again")
    newest = await store.xrevrange(stream, count=1)
    if newest and newest[0][0] == last and newest[0][1]["event"] in ("done", "error"):
        return Response(status_code=204)  # all was told; to a browser this says not to come again
    return StreamingResponse(follow(stream, key(job_id, "result"), last), media_type="text/event-stream",
                             headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def follow(stream, result, last):
    # A client that goes away cancels us in the middle of a command, whose answer must reach nobody else: hence a connection of our own.
    mine = aioredis.Redis(connection_pool=aioredis.ConnectionPool.from_url(REDIS_URL, **limits))
    streams.add(mine)
    began = spoke = time.monotonic()
    try:
        yield "retry: 1000\n\n"
        while time.monotonic() < began + STREAM_S:
            over = await mine.lindex(result, 0)  # before the stream is read: then the stream is complete
            entries = await mine.xread({stream: last}, count=100, block=None if over else int(min(KEEPALIVE_S, 2) * 1000))
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
    except RedisError as e:
        log.warning("Redis: %s", e)  # the browser comes back
    finally:
        streams.discard(mine)
        with contextlib.suppress(RedisError):
            await asyncio.shield(mine.connection_pool.disconnect())  # shielded, since being cancelled goes on while we tidy up


@app.get("/", response_class=HTMLResponse)
async def page():
    return PAGE
