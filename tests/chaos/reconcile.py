"""After the storm: compares what was accepted with what Redis holds, and what the API was asked with what can be explained."""
import base64
import hashlib
import json
import re
from collections import Counter, defaultdict

from chaos.plan import PATHS, QUEUES

SLACK_MS = 300  # between an event and our note of it
UNDONE_MS = 1000  # so long a master may live on after its replicas stopped to hear of it
NO_ANSWER = ("UnknownOutcomeError", 0)


class Troubles:
    """When something happened to whom, in ms of the clock. Only what may cost a call stands here: a flushed script cache, a killed connection, a full
    Redis, a pause and a stop well within the lease must not, and so explain nothing."""

    ORDER = ("kill", "stop", "second TERM", "cut", "Redis away", "master died", "slow wire", "machine stalled")

    def __init__(self):
        self.of = defaultdict(list)  # worker's name, its seat, ("queue", name), or None for all of them: [[from, to, cause]]
        self.seat_of, self.name_of = {}, {}  # by worker's name; by its process id

    def begin(self, whom, cause, now_ms):
        entry = [now_ms, float("inf"), cause]
        self.of[whom].append(entry)
        return entry

    def at(self, whom, cause, from_ms, to_ms):
        self.of[whom].append([from_ms, to_ms, cause])

    def during(self, worker, from_ms, to_ms, queue):
        """Causes that overlap with that time, the most telling first: of a worker, and of a queue, or of any ('*')."""
        whom = [worker, self.seat_of[worker], None, *(w for w in list(self.of) if isinstance(w, tuple) and queue in ("*", w[1]))]
        found = {c for w in whom for a, b, c in self.of[w] if a <= to_ms + SLACK_MS and b >= from_ms - SLACK_MS}
        return [c for c in self.ORDER if c in found]

    def of_redis(self, from_ms, to_ms, queue):
        """Whether Redis itself was in trouble then, where that queue is."""
        return any(a <= to_ms + SLACK_MS and b >= from_ms - SLACK_MS for w in (None, ("queue", queue)) for a, b, _ in self.of[w])

    def lost_its_master(self, queue, from_ms, to_ms):
        """Whether that died in between, or just before: then what replication had not carried was undone. What began later is not excused."""
        return any(from_ms - UNDONE_MS <= a <= to_ms + SLACK_MS for a, _, _ in self.of["queue", queue])


class Reconciliation:
    def __init__(self, r, jobs, calls, troubles, lease_ms, recovery_max_ms):
        self.r, self.jobs, self.troubles, self.lease_ms, self.recovery_max_ms = r, jobs, troubles, lease_ms, recovery_max_ms
        self.breaches = []
        self.calls = defaultdict(list)  # (path, text) -> calls, oldest first
        for call in calls:
            self.calls[call["path"], call["text"]].append(call)
        self.figures = Counter()
        self.reruns = Counter()  # by cause
        self.results, self.dead, self.replies = {}, defaultdict(list), {}
        self.recoveries = []

    def breach(self, text):
        self.breaches.append(text)

    def run(self):
        never = [j for j in self.jobs if j.pushed_ms is None]
        for job in never:
            self.breach(f"{job.queue} {job.id}: was never pushed, because {job.parent.id} has not ended")
        self.jobs = [j for j in self.jobs if j.pushed_ms is not None]
        self.read()
        self.check_accounts()
        self.check_replies()
        self.check_leftovers()
        explained = {id(j): self.check_calls(j) for j in self.jobs if j.call}
        for job in self.jobs:
            if job.pieces:
                self.check_pieces(job)
        for job in self.jobs:
            if job.nameless is None and job.twin_of is None:
                self.check_result(job, explained.get(id(job), []))
        self.check_unknown_calls()

    # --- What Redis holds.

    def read(self):
        for queue in QUEUES:
            stem = f"adwuma:{{{queue}}}:"
            for kind, into in (("result", self.results), ("reply", self.replies)):
                keys = list(self.r.scan_iter(f"{stem}{kind}:*", 1000))
                for i in range(0, len(keys), 500):
                    pipe = self.r.pipeline(transaction=False)
                    for key in keys[i:i + 500]:
                        pipe.lrange(key, 0, -1)
                        pipe.ttl(key)
                    answers = pipe.execute()
                    for key, held, ttl in zip(keys[i:i + 500], answers[::2], answers[1::2]):
                        name = key.decode()[len(stem) + len(kind) + 1:]
                        into[queue, name] = held
                        if ttl <= 0:
                            self.breach(f"{key.decode()} does not expire")
            self.dead[queue] = [json.loads(x) for x in self.r.lrange(stem + "dead", 0, -1)]

    def check_accounts(self):
        for queue in QUEUES:
            named = {j.id for j in self.jobs if j.queue == queue and j.nameless is None}
            twins = sum(1 for j in self.jobs if j.queue == queue and j.twin_of)
            nameless = [j for j in self.jobs if j.queue == queue and j.nameless is not None]
            have = {name for q, name in self.results if q == queue}
            for lost in sorted(named - have):
                self.breach(f"{queue} {lost}: LOST, there is no result")
            for odd in sorted(have - named):
                self.breach(f"{queue} {odd}: a result that nobody asked for")
            for name in have:
                if len(self.results[queue, name]) != 1:
                    self.breach(f"{queue} {name}: {len(self.results[queue, name])} results in its list")
            stats = {k.decode(): int(v) for k, v in self.r.hgetall(f"adwuma:{{{queue}}}:stats").items()}
            outcomes = Counter()
            for name in have:
                result = json.loads(self.results[queue, name][0])
                kind = result.get("error", {}).get("type")
                outcomes[{"ExpiredError": "expired", "CancelledError": "cancelled", None: "succeeded"}.get(kind, "failed")] += 1
            self.check_dead(queue, nameless)
            outcomes["failed"] += len(nameless)
            for name in ("succeeded", "failed", "expired", "cancelled"):
                if stats.get(name, 0) != outcomes[name]:
                    self.breach(f"{queue}: stats count {stats.get(name, 0)} {name}, but there are {outcomes[name]}")
            for name, n in stats.items():
                self.figures[f"stats {name}"] += n
            self.figures["accepted"] += len(named) + twins + len(nameless)
            self.figures["results"] += len(have)
            self.figures["dead without id"] += len(nameless)
            self.figures["second jobs of an id"] += twins

    def check_dead(self, queue, nameless):
        """Each job without an id once; each failed result once; nothing else."""
        without, with_id = Counter(), Counter()
        for entry in self.dead[queue]:
            if re.search("no usable id|no JSON object", entry["error"]["message"]):
                job = entry.get("job")
                job = base64.b64decode(entry["job_base64"]) if job is None else job if isinstance(job, str) else json.dumps(job)
                marks = re.findall(rb"nameless-\d+" if isinstance(job, bytes) else r"nameless-\d+", job)
                without[marks[0].decode() if isinstance(marks[0], bytes) else marks[0]] += 1
            else:
                with_id[entry["job"]["id"]] += 1
        wanted = Counter(f"nameless-{j.number}" for j in nameless)
        failed = Counter(name for (q, name), held in self.results.items()
                         if q == queue and json.loads(held[0]).get("error", {}).get("type") not in (None, "ExpiredError", "CancelledError"))
        for what, have, want in (("without id", without, wanted), ("failed", with_id, failed)):
            for name in sorted((have - want) | (want - have)):
                self.breach(f"{queue} {name}: {have[name]} entries in dead, {want[name]} wanted ({what})")

    def check_replies(self):
        wanted = defaultdict(set)
        for job in self.jobs:
            if job.nameless is None and "reply" in job.fields and job.kind != "bad":
                wanted[job.queue, job.fields["reply"]].add(job.id)
        for key in set(wanted) | set(self.replies):
            found = Counter(json.loads(x)["id"] for x in self.replies.get(key, []))
            for name in sorted(wanted[key] ^ set(found)):
                self.breach(f"{key[0]} {name}: is {'not ' if name in wanted[key] else ''}in reply list {key[1]}")
            for name, n in found.items():
                if n != 1:
                    self.breach(f"{key[0]} {name}: {n} times in reply list {key[1]}")
            for held in self.replies.get(key, []):
                if [held] != self.results.get((key[0], json.loads(held)["id"])):
                    self.breach(f"{key[0]} {json.loads(held)['id']}: its reply is not its result")
            self.figures["replies"] += sum(found.values())

    def check_leftovers(self):
        """Every key is of a kind that is meant to stay, and what a dead worker left goes by itself."""
        for key in self.r.scan_iter("adwuma:*", 1000):
            kind = key.decode().split("}:", 1)[1].split(":", 1)[0]
            if kind in ("stage", "sent", "crashes", "gone", "audio", "pieces", "stream", "cursor"):
                if self.r.ttl(key) <= 0:
                    self.breach(f"{key.decode()} does not expire")
            elif kind not in ("result", "reply", "stats", "billed", "dead", "dead_bytes", "cancelled"):
                self.breach(f"{key.decode()} is left over ({self.r.type(key).decode()})")

    # --- Single jobs.

    def check_result(self, job, explained):
        held = self.results.get((job.queue, job.id))
        if not held:
            return
        result = json.loads(held[0])
        where = f"{job.queue} {job.id} ({job.kind})"
        if result["status"] == "succeeded":
            twins = [j for j in self.jobs_of(job) if self.is_wanted(j, result["result"])]
            undone = twins and job.hold and job.lost_answer and self.troubles.lost_its_master(job.queue, job.pushed_ms, result["finished_at_ms"])
            if (job.must_fail and not undone) or not twins:
                self.breach(f"{where}: should not have succeeded with {str(result['result'])[:200]}")
        else:
            error = (result["error"]["type"], result["error"]["status_code"])
            excused = error == NO_ANSWER and job.hold and (job.lost_answer or explained or self.died_before_the_call(job, result))
            if error not in job.errors and not excused:
                self.breach(f"{where}: failed with {error[0]} {error[1]}: {result['error']['message'][:160]}")
        if job.kind == "chat":
            self.check_stream(job, result, where)
        if job.after is not None and (result["started_at_ms"] or 1 << 60) < job.pushed_ms + job.after:
            self.breach(f"{where}: began before not_before_ms")

    def check_stream(self, job, result, where):
        """What counts of a stream is whole, in order, and ends once, whatever fell upon it."""
        entries = [(e[b"event"].decode(), json.loads(e[b"data"])) for _, e in self.r.xrange(f"adwuma:{{{job.queue}}}:stream:{job.id}")]
        names = [name for name, _ in entries]
        ends = [i for i, name in enumerate(names) if name in ("done", "error")]
        self.figures["streams"] += 1
        self.figures["streams that restarted"] += "restart" in names
        wanted = ("done", result["result"]) if result["status"] == "succeeded" else ("error", result["error"])
        if ends != [len(names) - 1] or entries[-1] != wanted:
            self.breach(f"{where}: its stream ends with {entries[-1:]} and has {len(ends)} ends")
            return
        last = len(names) - names[::-1].index("restart") if "restart" in names else 0
        pieces = entries[last:-1]
        indices = [p["index"] for _, p in pieces]
        if self.troubles.lost_its_master(job.queue, result["started_at_ms"] or job.pushed_ms, result["finished_at_ms"]):
            self.figures["streams that were on when their master died"] += 1
            if indices != sorted(set(indices)):  # some may be gone
                self.breach(f"{where}: its pieces are {indices}")
        elif indices != list(range(len(pieces))):
            self.breach(f"{where}: its pieces are {indices}")
        elif wanted[0] == "done" and "".join(p["delta"] for _, p in pieces) != job.want[1]:
            self.breach(f"{where}: its pieces make {''.join(p['delta'] for _, p in pieces)!r}")

    def died_before_the_call(self, job, result):
        """The mark of a hold job was made, and its worker died before the request went out."""
        worker = self.troubles.name_of[result["worker"].rsplit(".", 1)[0].rsplit("-", 2)[1]]
        return bool(self.troubles.during(worker, job.pushed_ms, result["finished_at_ms"], job.queue))

    def jobs_of(self, job):
        return [job] + self.twins.get((job.queue, job.id), [])

    @property
    def twins(self):
        if not hasattr(self, "_twins"):
            self._twins = defaultdict(list)
            for j in self.jobs:
                if j.twin_of:
                    self._twins[j.queue, j.id].append(j)
        return self._twins

    def is_wanted(self, job, result):
        if not job.want:
            return False
        name, value = job.want
        if name == "text":
            return result.get("text") == value
        if name == "content":
            return result["data"]["message"]["content"] == value
        audio = self.audio_of(result)
        return audio is not None and len(audio) == result["bytes"] and hashlib.sha256(audio).hexdigest() == result["sha256"] and value.encode() in audio

    def audio_of(self, result):
        return self.r.get(result["audio_key"]) if "audio_key" in result else base64.b64decode(result.get("audio_base64", ""))

    def check_calls(self, job):
        """Calls = tries that ended + reruns, each explained. Returns the calls whose answers something may have kept from being counted."""
        calls = self.calls.pop(job.call, [])
        held = self.results.get((job.queue, job.id))
        if not held:
            return []
        result = json.loads(held[0])
        where = f"{job.queue} {job.id} ({job.kind})"
        attempts = result["attempts"]
        if self.twins.get((job.queue, job.id)) or job.twin_of:
            attempts = min(1, len(calls))  # which of the two was counted cannot be told: each may be called once
        explained = []
        for i, call in enumerate(calls):
            until = calls[i + 1]["arrived_ms"] if i + 1 < len(calls) else max(result["finished_at_ms"], call["arrived_ms"])
            causes = self.troubles.during(call["worker"], call["arrived_ms"], until, job.queue)
            if causes:
                explained.append((call, causes))
        reruns = max(0, len(calls) - attempts)
        self.figures["calls"] += len(calls)
        self.figures["tries counted"] += attempts
        self.figures["reruns"] += reruns
        if reruns > len(explained):
            self.figures["reruns unexplained"] += reruns - len(explained)
            self.breach(f"{where}: {len(calls)} calls, {attempts} tries, and only {len(explained)} of the {reruns} reruns can be explained: "
                        + ", ".join(f"{c['worker']} at {c['arrived_ms']} got {c['status']}" for c in calls) + f"; finished at {result['finished_at_ms']}")
        for _, causes in sorted(explained, key=lambda e: Troubles.ORDER.index(e[1][0]))[:reruns]:
            self.reruns[causes[0]] += 1
        kind = result.get("error", {}).get("type")
        if len(calls) < attempts and not job.twin_of and not self.twins.get((job.queue, job.id)) and "timeout_ms" not in job.fields \
                and kind not in ("CancelledError", "UnknownOutcomeError"):
            self.breach(f"{where}: {attempts} tries, but only {len(calls)} calls")
        if attempts > job.fields.get("max_attempts", 5):
            self.breach(f"{where}: {attempts} tries are more than it allows")
        # The mark of a job that says hold may be undone like all else.
        again = [c for c, after in zip(calls, calls[1:]) if c["status"] not in (429, 423)]
        excused = [c for c in again if self.troubles.lost_its_master(job.queue, c["arrived_ms"], result["finished_at_ms"])]
        if job.hold:
            self.figures["hold jobs called again after a failover"] += len(excused)
        if job.hold and len(excused) < len(again):
            self.breach(f"{where}: says hold and was called again after " + ", ".join(str(c["status"]) for c in calls))
        if kind == "ExpiredError" and attempts == 0 and calls and not explained:
            self.breach(f"{where}: had expired, and was called")
        if not job.faulty and not job.hold:
            self.measure_recovery(calls)
        return explained

    def check_pieces(self, job):
        """Each piece is called once, once more for a fault in it, and again only where a blow fell on that very call: what is done is never paid again."""
        where = f"{job.queue} {job.id} ({job.kind})"
        calls = [self.calls.pop((PATHS["translate"], text), []) for text, _ in job.pieces]
        for i, (called, (_, faults)) in enumerate(zip(calls, job.pieces)):
            self.figures["calls"] += len(called)
            self.figures["pieces"] += 1
            if not called:
                self.breach(f"{where}: piece {i} was never called")
            # The next piece is begun when this one is done and kept.
            next_at = min((c["arrived_ms"] for c in calls[i + 1]), default=None) if i + 1 < len(calls) else None
            late = [c for c in called if next_at is not None and c["arrived_ms"] > next_at and not self.troubles.of_redis(next_at, c["arrived_ms"], job.queue)]
            if late:
                self.breach(f"{where}: piece {i} was paid again by {late[0]['worker']} at {late[0]['arrived_ms']}, though piece {i + 1} had begun at {next_at}")
            reruns = len(called) - 1 - faults
            explained = [c for c, after in zip(called, called[1:]) if self.troubles.during(c["worker"], c["arrived_ms"], after["arrived_ms"], job.queue)]
            self.figures["reruns"] += max(0, reruns)
            if reruns > len(explained):
                self.breach(f"{where}: piece {i} was called {len(called)} times with {faults} faults, and only {len(explained)} reruns can be explained")

    def measure_recovery(self, calls):
        """From a worker's death to the call by another; where other blows came in between, what is promised counts from the last of them."""
        for first, second in zip(calls, calls[1:]):
            if first["worker"] == second["worker"]:
                continue
            for died, _, cause in self.troubles.of[first["worker"]]:
                if cause == "kill" and first["arrived_ms"] - SLACK_MS <= died <= second["arrived_ms"]:
                    since = self.last_blow(died, second["arrived_ms"])
                    self.recoveries.append((second["arrived_ms"] - died, second["arrived_ms"] - since))
                    if second["arrived_ms"] - since > self.recovery_max_ms:
                        self.breach(f"{first['text'][:60]}: done again {second['arrived_ms'] - died:.0f} ms after {first['worker']} died, "
                                    f"{second['arrived_ms'] - since:.0f} ms after the last blow")

    def last_blow(self, from_ms, to_ms):
        entries = [(a, b) for entries in self.troubles.of.values() for a, b, _ in entries] + list(self.calm_breakers)
        return max([from_ms] + [b if b <= to_ms else a for a, b in entries if a <= to_ms and b >= from_ms])

    calm_breakers = ()  # what explains no rerun, but may delay one

    def check_unknown_calls(self):
        for (path, text), calls in self.calls.items():
            self.breach(f"{len(calls)} calls that no job explains: {path} {text[:100]!r} by {calls[0]['worker']}")
