# SPDX-License-Identifier: MIT
"""The Khaya SDK's client over a queue: `from adwuma_khaya import KhayaClient` in place of `from khaya import KhayaClient`.

    with KhayaClient() as khaya:
        print(khaya.translate("Good morning", "en-tw").text)

    async with KhayaClient() as khaya:
        results = await asyncio.gather(*(khaya.atranslate(text) for text in texts))

Calls become jobs of Adwuma in Redis; workers carry them out, try them again, and keep the API key. One file: the standard library and redis-py.
Python 3.9, redis-py 4.2, Redis 6.2 or newer."""
from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import re
import ssl
import threading
import time
import urllib.parse
import uuid
import weakref
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

import redis
import redis.asyncio
import redis.crc

__all__ = ["KhayaClient", "Settings", "TranslationResult", "TranscriptionResult", "Timings", "WordTiming", "SegmentTiming", "SynthesisResult",
           "APIError", "AuthenticationError", "RateLimitError", "TranslationError", "TTSGenerationError", "ASRTranscriptionError", "InvalidJobError",
           "ExpiredError", "CancelledError", "WorkerCrashError", "UnknownOutcomeError", "WaitTimeoutError"]

# --- The queue. Up to the next line of this kind the same text in adwuma_khaya.py and adwuma_taskingai.py, since each is whole by itself;
# --- a test holds them together.

PIECE_S = 5.0  # longest wait at Redis in one go: a connection that died silently is noticed
LOOK_S = 2.0  # how often results are looked for by their ids, beside the reply lists
PAUSE_S, PAUSE_MAX_S = 0.05, 1.0  # between two tries to reach Redis
SEEK_S = 1.0  # for a sentinel, or a node of a cluster, to say where the master is
FOLLOW_S = 1.0  # how often sentinels are asked while we are connected
BATCH, BATCH_BYTES = 500, 8 << 20  # what goes to Redis in one trip
AUDIO_TTL_S = 86400  # how long what is uploaded waits for a worker, as results do
# What servers say while another takes over: redis-py's classes, and the words where it knows none.
_ELSEWHERE = (redis.exceptions.AskError, redis.exceptions.TryAgainError, redis.exceptions.ClusterDownError)  # MOVED is of the first
_ELSEWHERE_WORDS = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
_REPLACED_WORDS = ("MASTERDOWN", "UNBLOCKED")  # of one that has become a replica; its name may lead elsewhere now
# The last: redis-py 4 looks for the host of a unix socket while it tells that this was lost.
_PASSING = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError, OSError, EOFError, asyncio.TimeoutError, AttributeError)

Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO]


class _Failure(Exception):
    """What went wrong. retryable: the same call, made again later, could succeed; job_id: to find it with `adwuma result`."""

    def __init__(self, message: str, status_code: int = 0, *, code: Optional[str] = None, details: Optional[List[Dict[str, Any]]] = None,
                 activity_id: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.details = details or []
        self.activity_id = activity_id
        self.retryable = False
        self.job_id: Optional[str] = None

    def __str__(self) -> str:
        parts = [self.message]
        if self.code:
            parts.append(f"code={self.code}")
        if self.activity_id:
            parts.append(f"activityId={self.activity_id}")
        for detail in self.details:
            if isinstance(detail, dict) and detail.get("message"):
                parts.append(f"{detail['target']}: {detail['message']}" if detail.get("target") else str(detail["message"]))
        return " | ".join(parts)


def _failure(error: Dict[str, Any], job_id: str) -> _Failure:
    """The exception that a failed result's error object stands for."""
    failure = _ERRORS.get(error.get("type"), _BASE)(error.get("message") or "", error.get("status_code") or 0, code=error.get("code"),
                                                    details=error.get("details"), activity_id=error.get("activity_id"))
    failure.retryable, failure.job_id = bool(error.get("retryable")), job_id
    return failure


def _passes(error: BaseException, place: Optional["_Place"]) -> bool:
    """Whether another connection may do better. A wrong password is of the class of lost connections, or the cause of one."""
    if isinstance(error, redis.ResponseError) and str(error).startswith(_REPLACED_WORDS):
        return True
    if place and isinstance(error, redis.ResponseError) and (isinstance(error, _ELSEWHERE) or str(error).startswith(_ELSEWHERE_WORDS)):
        return True
    return isinstance(error, _PASSING) and not any(isinstance(e, redis.AuthenticationError) for e in (error, error.__cause__))


def _refusal(error: BaseException) -> _Failure:
    return _BASE(f"Redis refuses: {error}" if isinstance(error, redis.RedisError) else f"{type(error).__name__}: {error}")


def _reason(error: BaseException) -> str:
    """In a word, without what redis-py quotes in some of its messages."""
    words = [e.reason for e in (error, error.__cause__, error.__context__) if isinstance(e, ssl.SSLError) and e.reason]
    words += re.findall("^[A-Z]{3,}", str(error)) if isinstance(error, redis.ResponseError) else []
    return words[0] if words else type(error).__name__


def _late(job: "_Job", seconds: float, lost: Optional[BaseException]) -> _Failure:
    why = f"; {lost}" if isinstance(lost, _Nowhere) else f"; Redis could not be reached ({_reason(lost)})" if lost else ""
    failure = WaitTimeoutError(f"no answer within {seconds:g} s{why}")
    failure.job_id, failure.retryable = job.id, True
    return failure


def _read_source(source: Source) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if hasattr(source, "read"):
        return source.read()
    with open(source, "rb") as f:
        return f.read()


async def _aread_source(source: Source) -> bytes:
    """Files are read beside the event loop."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    return await asyncio.get_running_loop().run_in_executor(None, _read_source, source)


class _Job:
    """A job on its way, and who waits for it. blob: bytes that travel through a key of their own."""

    def __init__(self, wire: "_Wire", queue: str, fields: Dict[str, Any], reply: Optional[str] = None, streams: bool = False) -> None:
        self.id = uuid.uuid4().hex
        self.wire, self.queue, self.streams = wire, queue, streams
        self.blob: Optional[bytes] = None
        self.end = time.monotonic() + wire.wait_timeout
        self.tried = False  # it may be in Redis
        self.future: Any = None  # of an asynchronous call
        job = {"id": self.id, **wire.defaults, "enqueued_at_ms": int(time.time() * 1000), **fields}
        if reply and not streams:
            job["reply"] = reply
        self.fields = job

    def key(self, kind: str) -> str:
        return self.wire.key(self.queue, kind, self.id)

    def seal(self) -> "_Job":
        """Here, where what is no JSON can still be told to whoever gave it."""
        self.payload = json.dumps(self.fields, allow_nan=False, default=_plain)
        return self

    def size(self) -> int:
        return len(self.blob or b"") + len(self.payload)

    def commands(self) -> List[Tuple[Any, ...]]:
        """What submits it. Made again it does no harm: an id has one result."""
        push = ("LPUSH", self.wire.key(self.queue, "ready"), self.payload)
        if self.blob is None:
            return [push]
        return [("SET", self.key("audio"), self.blob, "EX", self.wire.defaults.get("result_ttl_s", AUDIO_TTL_S)), push]

    def cancelling(self) -> Tuple[Any, ...]:
        return ("ZADD", self.wire.key(self.queue, "cancelled"), int(time.time() * 1000), self.id)

    def afterwards(self, result: Dict[str, Any]) -> List[Tuple[Any, ...]]:
        """What is asked of Redis when the result is there; a failed job may be tried again from the dead, and needs its bytes then."""
        if result.get("status") != "succeeded":
            return []
        made = (result.get("result") or {}).get("audio_key")
        return [("GET", made)] if made else [("UNLINK", self.key("audio"))] if self.blob is not None else []

    def value(self, result: Dict[str, Any], answers: Sequence[Any]) -> Tuple[Any, Any]:
        """The result's value and what `afterwards` got, or the failure."""
        if result.get("status") != "succeeded":
            raise _failure(result.get("error") or {}, self.id)
        return result.get("result"), answers[0] if answers else None


class _Nowhere(redis.ConnectionError):
    """Nobody who was asked says where the master is."""


class _Address:
    """What redis_url says of several hosts: redis[s]+sentinel://[user:password@]host:port,.../name[/db], redis[s]+cluster://... without a name."""

    FORM = re.compile(r"redis(s?)\+(sentinel|cluster)://(?:([^/?,]*)@)?([^/?@]*)(?:/([^?]*))?")
    POINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[^\]]+)?)\]|([^][:]*))(?::([0-9]{1,5}))?")

    def __init__(self, url: str, options: Dict[str, Any]) -> None:
        form = self.FORM.fullmatch(url)
        tls, kind, login, points, tail = form.groups() if form else ("", "", "", "", "")
        self.tls, self.cluster = bool(tls), kind == "cluster"
        self.points = [self.point(text, "," in points) for text in points.split(",")]
        name, _, db = ("", "", tail or "") if self.cluster else (tail or "").partition("/")
        self.name = urllib.parse.unquote(name)
        if not form or not (db.isdigit() or not db) or (int(db or 0) if self.cluster else not name):
            raise ValueError
        user, _, password = map(urllib.parse.unquote, (login or "").partition(":"))
        self.login = {"username": user or None, "password": password or None}
        self.options = {**options, "db": int(db or 0)}

    def point(self, text: str, several: bool) -> Tuple[str, int]:
        found = self.POINT.fullmatch(text)
        if not found or (several and not text):
            raise ValueError
        port = int(found[3] or (6379 if self.cluster else 26379))
        if not 0 < port < 65536:
            raise ValueError
        return found[1] or found[2] or "127.0.0.1", port


class _Place:
    """Where the master is that has a queue's keys. Sentinels, or nodes of the cluster, are asked when a connection is made and what was known has
    proved wrong: by plain commands of short connections, since redis-py's clients of a cluster need more rights than producers have (COMMAND), and
    its asynchronous one speaks no TLS in redis-py 4.

    Who is connected does not hear that sentinels have named another: a master that is replaced while it is well goes on taking writes for some ten
    seconds, and forgets them then. So a thread asks them each second, until its owner is closed or gone, and a connection to any other is made anew
    before the next command."""

    def __init__(self, address: _Address, key: str, owner: "_Wire") -> None:
        self.address, self.slot = address, redis.crc.key_slot(key.encode())
        self.owner, self.follower = weakref.ref(owner), None
        self.points = list(address.points)
        self.found: Optional[Tuple[str, int]] = None
        self.failed: Tuple[float, Optional[Exception]] = (0, None)
        self.lock = threading.Lock()

    def client(self, module: Any) -> Any:
        """One whose every connection goes to where the master is when it is made."""
        place, base = self, module.SSLConnection if self.address.tls else module.Connection

        class Plain(base):  # type: ignore[misc]
            at: Optional[Tuple[str, int]] = None

            def connect(self, *args: Any, **kwargs: Any) -> Any:
                """redis-py calls it before each command; one that is connected stays so."""
                place.follow()
                at = place.find()
                if self.at and self.at != at:
                    self.disconnect()
                self.host, self.port = self.at = at
                return super().connect(*args, **kwargs)

        class Awaited(base):  # type: ignore[misc]
            at: Optional[Tuple[str, int]] = None

            async def connect(self, *args: Any, **kwargs: Any) -> Any:
                place.follow()
                at = place.found or await asyncio.get_running_loop().run_in_executor(None, place.find)
                if self.at and self.at != at:
                    await self.disconnect()
                self.host, self.port = self.at = at
                return await super().connect(*args, **kwargs)

        kind = Plain if module is redis else Awaited
        client = module.Redis(connection_pool=module.ConnectionPool(connection_class=kind, **self.address.login, **self.address.options))
        client.place = self
        return client

    def piece(self) -> float:
        """How long may be waited in one go."""
        return PIECE_S if self.address.cluster else FOLLOW_S

    def follow(self) -> None:
        """Also in a process that was forked, where the thread is gone. Two at once do no harm: the one that is not the follower ends."""
        known = self.follower
        if self.address.cluster or (known and known.is_alive()):
            return
        self.follower = thread = threading.Thread(target=_follow, args=(weakref.ref(self),), name="adwuma-follow", daemon=True)
        thread.start()

    def look(self) -> None:
        """One that is named but does not say so itself, or is away, is not worth a connection that works."""
        with contextlib.suppress(Exception):
            was, named = self.found, self.seek()
            if was and named != was and self.ask(*named, self.address.login, "INFO", "replication")["role"] == "master" and self.found == was:
                self.found = named

    def find(self) -> Tuple[str, int]:
        """One thread asks; others wait for what it finds, be it nothing."""
        began, found = time.monotonic(), self.found
        if found:
            return found
        with self.lock:
            when, error = self.failed
            if error and when > began:
                raise error
            found = self.found
            if not found:
                try:
                    self.found = found = self.seek()
                except Exception as e:
                    self.failed = (time.monotonic(), e)
                    raise
            return found

    def lost(self, error: BaseException) -> None:
        """What was known is not so, or whoever is there does not answer. The others are asked first from now on. It does not wait for the lock, since
        event loops call it."""
        moved = isinstance(error, redis.exceptions.MovedError) or str(error).startswith("MOVED")
        to = re.search(r"[0-9]+ (\S+):([0-9]+)$", str(error)) if moved else None
        self.points = self.points[1:] + self.points[:1]
        self.found = (to[1], int(to[2])) if to else None

    def seek(self) -> Tuple[str, int]:
        said: List[Tuple[str, Exception]] = []
        for host, port in list(self.points):
            try:
                return self.in_cluster(host, port) if self.address.cluster else self.by_sentinel(host, port)
            except (redis.RedisError, OSError) as e:
                said.append((f"{host}:{port}", e))
        if not any(_passes(e, self) for _, e in said):  # one that is away may know better
            raise said[0][1]
        whose = "no node of the cluster" if self.address.cluster else "no sentinel"
        raise _Nowhere(f"{whose} says where the master is ({', '.join(f'{at}: {self.reason(e)}' for at, e in said)})")

    @staticmethod
    def reason(error: BaseException) -> str:
        return str(error) if isinstance(error, redis.ResponseError) else _reason(error)

    def ask(self, host: str, port: int, login: Dict[str, Any], *command: Any) -> Any:
        options = {**self.address.options, **login, "socket_timeout": SEEK_S, "socket_connect_timeout": SEEK_S, "ssl": self.address.tls}
        client = redis.Redis(host=host, port=port, **{name: value for name, value in options.items() if name not in ("client_name", "db")})
        try:
            return client.execute_command(*command)
        finally:
            client.connection_pool.disconnect()

    def by_sentinel(self, host: str, port: int) -> Tuple[str, int]:
        """A sentinel often has no password where its master has one; one that has, has the same."""
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.name)
        try:
            found = self.ask(host, port, {}, *command)
        except redis.AuthenticationError:
            found = self.ask(host, port, self.address.login, *command)
        if not found:
            raise redis.ResponseError(f"a sentinel watches no master '{self.address.name}'")
        return found[0].decode(), int(found[1])

    def in_cluster(self, host: str, port: int) -> Tuple[str, int]:
        """The nodes that it names are asked from now on, too: those of the URL may all be gone one day."""
        ranges = self.ask(host, port, self.address.login, "CLUSTER", "SLOTS")
        for node in (node for each in ranges for node in each[2:]):
            point = self.named(node, host)
            if point not in self.points:
                self.points.append(point)
        for first, last, *nodes in ranges:
            if first <= self.slot <= last:
                return self.named(nodes[0], host)
        raise redis.ConnectionError("no node has the slot")

    @staticmethod
    def named(node: Sequence[Any], asked: str) -> Tuple[str, int]:
        """A node may not know a name of its own."""
        name = (node[0] or b"").decode()
        return asked if name in ("", "?") else name, int(node[1])


def _follow(of: "weakref.ref[_Place]") -> None:
    """A thread. It keeps nothing alive while it sleeps."""
    while True:
        time.sleep(FOLLOW_S)
        place = of()
        if not place or not place.owner() or place.follower is not threading.current_thread():
            return
        place.look()
        del place


class _Wire:
    """Where Redis is, how long is waited, and the plain calls, from any number of threads. In a cluster each queue is on a master of its own."""

    def __init__(self, redis_url: Optional[str], key_prefix: str, queues: Sequence[str], wait_timeout: float, loads: Callable[[Any], Any],
                 **defaults: Any) -> None:
        self.url = redis_url or os.environ.get("ADWUMA_REDIS_URL") or "redis://127.0.0.1:6379/0"
        self.prefix, self.queues, self.wait_timeout, self.loads = key_prefix, queues, wait_timeout, loads
        self.defaults = {name: value for name, value in defaults.items() if value is not None}
        self.collectors: Dict[Any, "_Collector"] = {}
        self.options = self.how_to_connect()
        try:
            self.places = self.places_of(queues)
            clients = {place: self.connect(redis, place) for place in set(self.places.values())}
        except ValueError:
            raise ValueError("redis_url cannot be read") from None  # the reason may quote a part of the password
        self.clients = {queue: clients[place] for queue, place in self.places.items()}

    def how_to_connect(self) -> Dict[str, Any]:
        options: Dict[str, Any] = {"socket_timeout": 2 * PIECE_S, "client_name": "adwuma-py"}
        if not self.url.startswith("unix:"):
            options["socket_connect_timeout"] = PIECE_S
        if int(redis.__version__.split(".")[0]) >= 5:
            options["protocol"] = 2
        if self.url.startswith("rediss"):
            options["ssl_check_hostname"] = True
            for option, name in (("ssl_ca_certs", "CA"), ("ssl_certfile", "CERT"), ("ssl_keyfile", "KEY")):
                options[option] = os.environ.get(f"ADWUMA_REDIS_{name}_FILE") or None
        return options

    def places_of(self, queues: Sequence[str]) -> Dict[str, Optional[_Place]]:
        """None: where the URL says."""
        if not re.match(r"rediss?\+", self.url):
            return dict.fromkeys(queues)
        address = _Address(self.url, self.options)
        if address.cluster:
            return {queue: _Place(address, self.key(queue), self) for queue in queues}
        return dict.fromkeys(queues, _Place(address, "", self))

    def connect(self, module: Any, place: Optional[_Place]) -> Any:
        """A client with connections of its own; module is redis or redis.asyncio."""
        if place:
            return place.client(module)
        client = module.Redis.from_url(self.url, **self.options)
        client.place = None
        return client

    def key(self, queue: str, *rest: str) -> str:
        return ":".join((f"{self.prefix}:{{{queue}}}", *rest))

    def insist(self, job: _Job, ask: Callable[[float], Any]) -> Any:
        """Asks in pieces, over as many connections as it takes, until there is something."""
        pause, lost, place = PAUSE_S, None, self.places[job.queue]
        longest = place.piece() if place else PIECE_S
        while True:
            left = job.end - time.monotonic()
            if left <= 0:
                raise _late(job, self.wait_timeout, lost)
            try:
                found = ask(max(min(left, longest), 0.01))
                if found:
                    return found
                pause, lost = PAUSE_S, None
            except (redis.RedisError, *_PASSING) as e:
                if not _passes(e, place):
                    raise _refusal(e) from None
                lost = e
                self.look_elsewhere(self.clients[job.queue], e)
                time.sleep(min(pause, left))
                pause = min(2 * pause, PAUSE_MAX_S)

    @staticmethod
    def look_elsewhere(client: Any, error: BaseException) -> None:
        """Other threads may be using its connections; those that are at the wrong place find it out by themselves."""
        if client.place:
            client.place.lost(error)
        client.connection_pool.disconnect(inuse_connections=False)

    def run(self, queue: str, *commands: Tuple[Any, ...]) -> List[Any]:
        pipe = self.clients[queue].pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers = pipe.execute(raise_on_error=False)  # what it raises by itself quotes the command: texts, and audio
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def submit(self, job: _Job) -> None:
        self.insist(job, lambda _: self.run(job.queue, *job.commands()))

    def call(self, job: _Job) -> Tuple[Any, Any]:
        key = job.key("result")
        try:
            self.submit(job)
            result = self.loads(self.insist(job, lambda piece: self.clients[job.queue].blmove(key, key, piece, "LEFT", "LEFT")))
        except KeyboardInterrupt:
            self.cancel(job)
            raise
        commands = job.afterwards(result)
        job.end = max(job.end, time.monotonic() + PIECE_S)
        return job.value(result, self.insist(job, lambda _: self.run(job.queue, *commands)) if commands else ())

    def cancel(self, job: _Job) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            self.run(job.queue, job.cancelling())

    def collector(self, queue: str) -> "_Collector":
        """That of the running event loop and of the queue's place."""
        loop, place = key = asyncio.get_running_loop(), self.places[queue]
        if key not in self.collectors:
            self.collectors = {known: c for known, c in self.collectors.items() if not known[0].is_closed()}
            self.collectors[key] = _Collector(self, place)
        return self.collectors[key]

    def close(self) -> None:
        for client in self.clients.values():
            client.connection_pool.disconnect()
            if client.place:
                client.place.follower = None

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        for key in [key for key in self.collectors if key[0] is loop]:
            await self.collectors.pop(key).aclose()
        self.close()


async def _tell(client: Any, commands: Sequence[Tuple[Any, ...]]) -> List[Any]:
    """Error replies come back as such."""
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return await pipe.execute(raise_on_error=False)


async def _ask(client: Any, commands: Sequence[Tuple[Any, ...]]) -> List[Any]:
    """The same, but those that pass are raised."""
    answers = await _tell(client, commands)
    for answer in answers:
        if isinstance(answer, Exception) and _passes(answer, client.place):
            raise answer
    return answers


async def _drop(client: Any, error: Optional[BaseException] = None) -> None:
    """Its connections; the next command makes a new one."""
    if client.place and error:
        client.place.lost(error)
    with contextlib.suppress(Exception):
        await client.connection_pool.disconnect()


class _Collector:
    """All calls of one event loop, in a cluster of one queue, over one connection, which sends what is to be sent and then waits for whatever ends
    first. A second one is made only where something is to be sent while the first one waits. Both belong to tasks of our own, which the cancelling of
    a call does not touch: a connection that lost its place between questions and answers would give later calls the wrong ones."""

    def __init__(self, wire: _Wire, place: Optional[_Place]) -> None:
        self.wire = wire
        self.name = "py-" + uuid.uuid4().hex
        self.replies = [wire.key(queue, "reply", self.name) for queue, its in wire.places.items() if its is place]
        self.calls: Dict[str, _Job] = {}  # those without a result
        self.outbox: Deque[Tuple[_Job, bool]] = collections.deque()  # jobs; True: to be cancelled
        self.front, self.side = wire.connect(redis.asyncio, place), wire.connect(redis.asyncio, place)
        self.waits = False
        self.lost: Optional[BaseException] = None
        self.task: Optional["asyncio.Task[None]"] = None
        self.errand: Optional["asyncio.Task[None]"] = None

    def post(self, job: _Job, cancel: bool = False) -> None:
        self.outbox.append((job, cancel))
        if self.waits and (self.errand is None or self.errand.done()):
            self.errand = asyncio.ensure_future(self.run_errand())
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self.collect())

    async def call(self, job: _Job) -> Any:
        """The job's value; of one that streams nothing, once Redis has it."""
        job.future = asyncio.get_running_loop().create_future()
        if not job.streams:
            self.calls[job.id] = job
        self.post(job)
        try:
            done, _ = await asyncio.wait([job.future], timeout=self.wire.wait_timeout)
        except asyncio.CancelledError:
            self.cancel(job)
            raise
        finally:
            self.calls.pop(job.id, None)
        if not done:
            self.withdraw(job)
            raise _late(job, self.wire.wait_timeout, self.lost)
        return job.future.result()

    def withdraw(self, job: _Job) -> None:
        job.future.cancel()  # so that what is on its way now is not sent again
        with contextlib.suppress(ValueError):
            self.outbox.remove((job, False))

    def cancel(self, job: _Job) -> None:
        self.withdraw(job)
        if job.tried:
            self.post(job, cancel=True)

    async def run_errand(self) -> None:
        try:
            await self.send(self.side)
        except (redis.RedisError, *_PASSING) as e:  # what could not be sent is sent by the other connection, within LOOK_S
            await _drop(self.side, e)

    async def send(self, client: Any) -> None:
        while self.outbox:
            batch, bytes_ = [], 0
            while self.outbox and len(batch) < BATCH and bytes_ < BATCH_BYTES:
                job, cancel = self.outbox.popleft()
                job.tried = True
                bytes_ += 0 if cancel else job.size()
                batch.append((job, cancel))
            try:
                commands = [[job.cancelling()] if cancel else job.commands() for job, cancel in batch]
                answers = iter(await _tell(client, [command for each in commands for command in each]))
            except BaseException:
                self.outbox.extendleft(reversed([entry for entry in batch if entry[1] or not entry[0].future.done()]))
                raise
            again, passing = [], None
            for (job, cancel), each in zip(batch, commands):
                errors = [answer for answer in itertools.islice(answers, len(each)) if isinstance(answer, Exception)]
                passes = [error for error in errors if _passes(error, client.place)]
                if passes:
                    again += [(job, cancel)] if cancel or not job.future.done() else []
                    passing = passes[0]
                elif errors and not cancel:
                    self.end(job, _refusal(errors[0]))
                elif job.streams and not cancel:
                    self.end(job, None)
            if passing:
                self.outbox.extendleft(reversed(again))
                raise passing

    def end(self, job: _Job, value: Any) -> None:
        self.calls.pop(job.id, None)
        if not job.future.done():
            job.future.set_exception(value) if isinstance(value, Exception) else job.future.set_result(value)

    async def collect(self) -> None:
        looked, pause = time.monotonic(), PAUSE_S
        while self.calls or self.outbox:
            try:
                await self.send(self.front)
                if self.lost or time.monotonic() - looked > LOOK_S:  # what was popped for a connection that then broke is still at its own key
                    found = await self.look()
                    looked = time.monotonic()
                else:
                    found = await self.wait()
                await self.settle(found)
                self.lost, pause = None, PAUSE_S
            except Exception as e:
                await _drop(self.front, e)
                if not _passes(e, self.front.place):
                    self.give_up(_refusal(e))
                    return
                self.lost = e
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_MAX_S)

    async def wait(self) -> List[bytes]:
        if not self.calls:
            return []
        self.waits = True
        try:
            first = await self.front.blpop(self.replies, LOOK_S)
        finally:
            self.waits = False
        return [first[1], *(await self.front.lpop(first[0], BATCH) or [])] if first else []

    async def look(self) -> List[bytes]:
        ids = list(itertools.islice(self.calls, BATCH))
        for job_id in ids:  # to the end: the next look begins with others
            self.calls[job_id] = self.calls.pop(job_id)
        answers = await _ask(self.front, [("LINDEX", self.calls[job_id].key("result"), 0) for job_id in ids])
        return [answer for answer in answers if isinstance(answer, bytes)]

    async def settle(self, found: Sequence[bytes]) -> None:
        for raw in found:
            result = self.wire.loads(raw)
            job = self.calls.get(result.get("id"))
            if not job:
                continue  # nobody waits for it any more
            commands = job.afterwards(result)
            answers = await _ask(self.front, commands) if commands else ()
            try:
                self.end(job, job.value(result, answers))
            except _Failure as failure:
                self.end(job, failure)

    def give_up(self, failure: Exception) -> None:
        for job in [*self.calls.values(), *(job for job, cancel in self.outbox if not cancel)]:
            self.end(job, failure)
        self.outbox.clear()

    async def aclose(self) -> None:
        """Calls that are still waited for end; what was cancelled just before is still told."""
        left = [entry for entry in self.outbox if entry[1]]
        self.give_up(_BASE("the client was closed"))
        tasks = [task for task in (self.task, self.errand) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.outbox.extend(left)
        if self.outbox:
            with contextlib.suppress(redis.RedisError, *_PASSING):
                await asyncio.wait_for(self.send(self.side), PAUSE_MAX_S)
        for client in (self.front, self.side):
            await _drop(client)


# --- End of what both have.


class APIError(_Failure):
    """Base of all; the SDK's attributes: message, status_code (0: no HTTP answer), code, details, activity_id."""


class AuthenticationError(APIError):
    """The worker's key is missing or refused."""


class RateLimitError(APIError):
    """429, also after the worker's last try."""


class TranslationError(APIError):
    """Text or language pair is missing."""


class TTSGenerationError(APIError):
    """What should be spoken is missing or wrong, or no audio came back."""


class ASRTranscriptionError(APIError):
    """The recording, or how it should be transcribed, is missing or wrong."""


class InvalidJobError(APIError, ValueError):
    """The worker refuses the job as it is."""


class ExpiredError(APIError):
    """It was not begun in time."""


class CancelledError(APIError):
    """Somebody cancelled the job in the queue: no asyncio.CancelledError."""


class WorkerCrashError(APIError):
    """Workers died of it again and again."""


class UnknownOutcomeError(APIError):
    """Nobody knows whether it was carried out, and the job said not to repeat it then."""


class WaitTimeoutError(APIError):
    """There is no answer yet. The job goes on: `adwuma result JOB_ID` shows it."""


_BASE = APIError
_ERRORS = {cls.__name__: cls for cls in (AuthenticationError, RateLimitError, TranslationError, TTSGenerationError, ASRTranscriptionError,
                                         InvalidJobError, ExpiredError, CancelledError, WorkerCrashError, UnknownOutcomeError)}


def _plain(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no place in a job")


@dataclass
class Settings:
    """The SDK's settings. timeout (seconds) and retry_attempts go into each job, where they are given; all others belong to the workers, and are
    taken here so that a program need not be changed."""

    api_key: Optional[str] = field(default=None, repr=False)
    base_url: Optional[str] = None
    timeout: Optional[int] = None
    retry_attempts: Optional[int] = None
    translation_version: Optional[str] = None
    asr_version: Optional[str] = None
    tts_version: Optional[str] = None


@dataclass
class TranslationResult:
    """Languages are those of the pair that was given."""

    text: str
    source_language: str
    target_language: str


@dataclass
class WordTiming:
    word: str
    start: float
    end: float


@dataclass
class SegmentTiming:
    text: str
    start: float
    end: float


@dataclass
class Timings:
    """granularity is `word` or `segment`; the other list is empty."""

    unit: str
    granularity: str
    words: List[WordTiming] = field(default_factory=list)
    segments: List[SegmentTiming] = field(default_factory=list)


@dataclass
class TranscriptionResult:
    text: str
    language: str
    warnings: List[str] = field(default_factory=list)
    timings: Optional[Timings] = None


@dataclass
class SynthesisResult:
    audio: bytes
    language: str

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        with open(path, "wb") as f:
            f.write(self.audio)


def _translation(result: Dict[str, Any], _: Any) -> TranslationResult:
    return TranslationResult(result["text"], result["source_language"], result["target_language"])


def _timings(found: Optional[Dict[str, Any]]) -> Optional[Timings]:
    if not found:
        return None
    return Timings(found.get("unit") or "seconds", found.get("granularity") or "",
                   [WordTiming(w["word"], w["start"], w["end"]) for w in found.get("words") or ()],
                   [SegmentTiming(s["text"], s["start"], s["end"]) for s in found.get("segments") or ()])


def _transcription(result: Dict[str, Any], _: Any) -> TranscriptionResult:
    return TranscriptionResult(result["text"], result["language"], list(result.get("warnings") or ()), _timings(result.get("timings")))


def _synthesis(result: Dict[str, Any], audio: Optional[bytes]) -> SynthesisResult:
    if audio is None:
        raise TTSGenerationError("The audio that was made has expired")
    return SynthesisResult(audio, result["language"])


def _no_file(source: Any, error: OSError) -> ASRTranscriptionError:
    if isinstance(error, FileNotFoundError):
        return ASRTranscriptionError(f"Audio file not found: {source}", 400)
    return ASRTranscriptionError(f"Audio file cannot be read: {source} ({error.strerror})", 400)


class KhayaClient:
    """The SDK's client. api_key and config are taken as the SDK takes them; a key given here is not used, and not kept: workers have their own.

    redis_url: else $ADWUMA_REDIS_URL, else redis://127.0.0.1:6379/0; also unix://, redis+sentinel://, redis+cluster://, and rediss… with TLS.
    queue: one queue for all calls; without it each goes to the queue named like it: translate, transcribe, synthesize.
    wait_timeout: seconds until a call ends with WaitTimeoutError, from its submission on; with the job waiting, tried again and all.
    result_ttl_s: how long results, and audio that was made, stay in Redis; without it the worker's setting.

    Plain calls may come from any number of threads, each call over a connection of a pool. Asynchronous ones share one connection in each event
    loop, and a second one where something is to be sent while the first waits. A call that is cancelled cancels its job."""

    def __init__(self, api_key: Optional[str] = None, config: Any = None, *, redis_url: Optional[str] = None, key_prefix: str = "adwuma",
                 queue: Optional[str] = None, wait_timeout: float = 300, result_ttl_s: Optional[int] = None, timeout: Optional[float] = None,
                 retry_attempts: Optional[int] = None, base_url: Optional[str] = None) -> None:
        self.config = config if config is not None else Settings(base_url=base_url, timeout=timeout, retry_attempts=retry_attempts)
        timeout, retries = getattr(self.config, "timeout", None), getattr(self.config, "retry_attempts", None)
        self._queue = queue
        self._wire = _Wire(redis_url, key_prefix, [queue] if queue else ["translate", "transcribe", "synthesize"], wait_timeout, json.loads,
                           timeout_ms=int(timeout * 1000) if timeout else None, max_attempts=retries, result_ttl_s=result_ttl_s)

    def _job(self, kind: str, fields: Dict[str, Any], blob: Optional[bytes] = None, reply: Optional[str] = None) -> _Job:
        job = _Job(self._wire, self._queue or kind, {"type": kind, **fields}, reply)
        if blob is not None:
            job.blob, job.fields["audio_key"] = blob, job.key("audio")
        return job.seal()

    def _call(self, make: Callable[[Any, Any], Any], kind: str, fields: Dict[str, Any], blob: Optional[bytes] = None) -> Any:
        return make(*self._wire.call(self._job(kind, fields, blob)))

    async def _acall(self, make: Callable[[Any, Any], Any], kind: str, fields: Dict[str, Any], blob: Optional[bytes] = None) -> Any:
        collector = self._wire.collector(self._queue or kind)
        return make(*await collector.call(self._job(kind, fields, blob, collector.name)))

    def translate(self, text: str, language_pair: str = "en-tw") -> TranslationResult:
        """Text of any length; `en-tw` is from English to Twi."""
        return self._call(_translation, "translate", {"text": text, "language_pair": language_pair})

    async def atranslate(self, text: str, language_pair: str = "en-tw") -> TranslationResult:
        return await self._acall(_translation, "translate", {"text": text, "language_pair": language_pair})

    def transcribe(self, audio_file_path: Source, language: str = "twi", timestamps: Optional[str] = None) -> TranscriptionResult:
        """A path, and beyond the SDK bytes or a file open for reading; read here, it travels through Redis. timestamps: `word`, `segment`."""
        try:
            audio = _read_source(audio_file_path)
        except OSError as e:
            raise _no_file(audio_file_path, e) from e
        return self._call(_transcription, "transcribe", {"language": language, "timestamps": timestamps}, audio)

    async def atranscribe(self, audio_file_path: Source, language: str = "twi", timestamps: Optional[str] = None) -> TranscriptionResult:
        try:
            audio = await _aread_source(audio_file_path)
        except OSError as e:
            raise _no_file(audio_file_path, e) from e
        return await self._acall(_transcription, "transcribe", {"language": language, "timestamps": timestamps}, audio)

    def synthesize(self, text: str, language: str, speaker: Optional[str] = None) -> SynthesisResult:
        """Speech as WAV. speaker: female, male_high, male_low."""
        return self._call(_synthesis, "synthesize", {"text": text, "language": language, "speaker": speaker})

    async def asynthesize(self, text: str, language: str, speaker: Optional[str] = None) -> SynthesisResult:
        return await self._acall(_synthesis, "synthesize", {"text": text, "language": language, "speaker": speaker})

    def close(self) -> None:
        self._wire.close()

    async def aclose(self) -> None:
        await self._wire.aclose()

    def __enter__(self) -> "KhayaClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    async def __aenter__(self) -> "KhayaClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()
