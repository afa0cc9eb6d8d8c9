"""What will be done, from the seed alone: the jobs with what may become of them, and the blows with their times and victims. Pure."""
import base64
import json
import random

BURST_S = 4  # every second stretch of this length comes all at once, so that workers have a backlog and claim in batches
FAILOVER_S = 20  # masters of a cluster are killed so far apart
QUEUES = ("translate", "synthesize", "transcribe", "mixed")
PAIRS = ("eng-twi", "eng-ewe", "eng-gaa", "twi-eng", "en-tw")
VOICES = ("twi", "ewe", "hau", "swa")
REPLIES = 20
# Faults that pass: the stub does this to the first calls with that text, then answers well. What it does, fields of the job that go with it,
# and whether the answer says that nothing was done (so that a job that says hold may be sent again).
PASSING = [
    ("status=500,retry_after=0", {}, False),
    ("status=503,retry_after=0.2", {}, False),
    ("status=502,retry_after=0.05", {}, False),
    ("status=429,retry_after=1", {}, True),
    ("reset", {}, False),
    ("close", {}, False),
    ("truncate", {}, False),
    ("hang", {"timeout_ms": 700}, False),
    ("status=504", {}, False),
]
# Faults that stay: type and status of the error that the job ends with, by type of job.
STAYING = [
    ("html200", {}, {"translate": ("APIError", 200), "transcribe": ("APIError", 200), "synthesize": ("TTSGenerationError", 200)}),
    ("status=401", {}, ("AuthenticationError", 401)),
    ("status=403", {}, ("APIError", 403)),
    ("status=503,retry_after=0", {"max_attempts": 2}, ("APIError", 503)),
    ("reset", {"max_attempts": 1}, ("APIError", 0)),
    ("hang", {"timeout_ms": 500, "max_attempts": 1}, ("APIError", 0)),
]
# Of streams, all of which pass: what the API does to the first of them.
STREAM_FAULTS = ("end=cut", "end=midline", "end=nofinal", "stream_error=2,code=UNKNOWN_ERROR", "status=503", "status=429,retry_after=1", "reset", "close")
LONG_FAULTS = ("status=500,retry_after=0", "status=429,retry_after=1", "reset", "close", "truncate")
# Jobs that are bad: queue, job, the error. The API is not asked.
BAD = [
    ("translate", {"text": 5}, ("InvalidJobError", 0)),
    ("translate", {"text": ""}, ("TranslationError", 400)),
    ("translate", {"text": "x", "type": "dance"}, ("InvalidJobError", 0)),
    ("translate", {"text": "x", "max_attempts": 0}, ("InvalidJobError", 0)),
    ("translate", {"text": "x\0y"}, ("InvalidJobError", 0)),
    ("mixed", {"text": "no type here"}, ("InvalidJobError", 0)),
    ("synthesize", {"text": "x", "language": "twi", "speaker": "robot"}, ("TTSGenerationError", 400)),
    ("transcribe", {"audio_path": "../../etc/passwd"}, ("ASRTranscriptionError", 400)),
    ("transcribe", {"audio_key": "adwuma:{transcribe}:audio:nobody"}, ("ASRTranscriptionError", 400)),
    ("transcribe", {}, ("InvalidJobError", 0)),
]
NAMELESS = ['{"text":"%s"}', '{"id":5,"text":"%s"}', '{"id":"","text":"%s"}', '{"id":"a b","text":"%s"}', '["%s"]', '"%s"', 'no JSON at all %s',
            '{"id":"cut-%s","text":', '{"id":null,"text":"%s","type":"translate"}']


class Job:
    """One accepted payload and what is known beforehand of its end."""

    def __init__(self, number, queue, kind, at):
        self.number, self.queue, self.kind, self.at = number, queue, kind, at
        self.id = f"j{number}"
        self.fields = {}
        self.want = None  # (field of the result, value); None: it may not succeed
        self.errors = set()  # (type, status) that it may end with
        self.must_fail = False
        self.call = None  # (path of the API, text): how the stub's record names its calls; None: it must not be called
        self.pieces = []  # (text, faults that pass) of a text that goes out in pieces: they are its calls
        self.faulty = self.hold = self.again_after_hold = self.lost_answer = False
        self.after = self.expires = self.cancel_at = None  # ms from its push
        self.parent = None  # a transcription: of what that job has made
        self.twin_of = None  # the job whose id it has too
        self.nameless = None  # its bytes, where it has no usable id
        self.pushed_ms = None

    def payload(self, now_ms):
        if self.nameless is not None:
            return self.nameless
        job = {"id": self.id, **self.fields, "enqueued_at_ms": now_ms}
        if self.after is not None:
            job["not_before_ms"] = now_ms + self.after
        if self.expires is not None:
            job["expires_at_ms"] = now_ms + self.expires
        return json.dumps(job, ensure_ascii=False).encode()


PATHS = {"chat": "/v1/inference/chat_completion", "translate": "/v1/translate", "synthesize": "/tts/v1/tts", "transcribe": "/asr/v3/transcribe"}


def add_fault(rng, job, kind, may_stay):
    """Returns the directives that go into the text or language, and sets what may become of the job."""
    job.faulty = True
    if may_stay and rng.random() < 0.3:
        what, fields, error = rng.choice(STAYING)
        job.fields.update(fields)
        job.errors = {error[kind] if isinstance(error, dict) else error}
        job.must_fail = True
        if job.hold and what in ("reset", "hang"):
            job.errors, job.lost_answer = {("UnknownOutcomeError", 0)}, True
        return what
    what, fields, nothing_done = rng.choice(PASSING)
    job.fields.update(fields)
    if job.hold:
        job.again_after_hold, job.must_fail = nothing_done, not nothing_done
        if what.startswith("status"):
            job.errors = set() if nothing_done else {("APIError", int(what[7:10]))}
        else:
            job.errors, job.lost_answer = {("UnknownOutcomeError", 0)}, True
    return f"{what},times={rng.choice((1, 1, 2))}"


def may_have_twin(job):
    return job.kind == "translate" and not (job.faulty or job.hold or job.errors or job.after)


def make_jobs(rng, count, seconds, transcribe_sources):
    jobs, parents = [], []
    for number in range(count):
        at = seconds * number / count
        if int(at / BURST_S) % 2:
            at = int(at / BURST_S) * BURST_S
        roll = rng.random()
        if roll < 0.02:
            queue, fields, error = BAD[number % len(BAD)]
            job = Job(number, queue, "bad", at)
            job.fields, job.errors, job.must_fail = dict(fields), {error}, True
        elif roll < 0.04:
            job = Job(number, rng.choice(QUEUES), "without id", at)
            job.nameless = (rng.choice(NAMELESS) % f"nameless-{number}").encode()
            if rng.random() < 0.1:
                job.nameless = b'{"text":"\xff\xfe nameless-%d"}' % number
        elif roll < 0.06 and (firsts := [j for j in jobs[-40:] if may_have_twin(j)]):
            first = rng.choice(firsts)
            job = Job(number, first.queue, "id of another", at)
            job.id, job.twin_of = first.id, first
            job.fields = {**first.fields, "text": f"twin {number}", "language_pair": "en-tw"}
            job.call, job.want = (PATHS["translate"], f"twin {number}"), ("text", f"[tw] twin {number}")
        else:
            job = make_good(rng, number, at, parents, transcribe_sources)
        jobs.append(job)
    return jobs


def make_long(rng, number, at):
    """A text over the API's limit: sentences of which no two fit into one request, and in some a fault that passes."""
    job = Job(number, "translate" if rng.random() < 0.85 else "mixed", "long", at)
    pair = rng.choice(PAIRS)
    job.fields = {"type": "translate", "language_pair": pair}
    for i in range(rng.randrange(2, 6)):
        fault = f"stub({rng.choice(LONG_FAULTS)},times=1) " if rng.random() < 0.3 else ""
        job.pieces.append((f"Piece {number}.{i} says, " + "as it did before, " * 40 + f"{fault}and ends.", 1 if fault else 0))
    glue = rng.choice((" ", "\n", "\n\n", " \r\n\t"))
    job.fields["text"] = glue.join(text for text, _ in job.pieces)
    job.want = ("text", glue.join(f"[{pair.split('-', 1)[1]}] {text}" for text, _ in job.pieces))
    job.faulty = any(faults for _, faults in job.pieces)
    return job


def make_chat(rng, number, at):
    """A stream of a few pieces; what its text is, is known, and so is how the API's record names the call."""
    job = Job(number, "mixed", "chat", at)
    marks = [f"pace={rng.randrange(0, 30)}"]
    if rng.random() < 0.2:
        what = rng.choice(STREAM_FAULTS)
        marks += [what, f"times={1 if 'UNKNOWN' in what else rng.choice((1, 1, 2))}"]  # what is like a 500 is tried twice at most
        job.faulty = True
    said = f"number {number} has {'some ' * rng.randrange(1, 12)}words"
    messages = [{"role": "user", "content": f"{said} stub({','.join(marks)})"}]
    job.fields = {"type": "taskingai.chat_completion", "params": {"model_id": "TpChaos1", "messages": messages, "stream": True}}
    if rng.random() < 0.3:
        job.fields["reply"] = f"r{rng.randrange(REPLIES)}"
    if not job.faulty and rng.random() < 0.05:
        job.cancel_at = rng.randrange(0, 1000)
        job.errors |= {("CancelledError", 0)}
    job.call = (PATHS["chat"], f'{{"model_id":"TpChaos1","messages":{json.dumps(messages)},"stream":true}}')
    job.want = ("content", f"Echo: {said}")
    return job


def make_good(rng, number, at, parents, transcribe_sources):
    if rng.random() < 0.05:
        return make_long(rng, number, at)
    if rng.random() < 0.1:
        return make_chat(rng, number, at)
    kind = rng.choices(("translate", "synthesize", "transcribe"), (70, 15, 15))[0]
    if kind == "transcribe" and not parents:
        kind = "translate"
    job = Job(number, kind if rng.random() < 0.85 else "mixed", kind, at)
    job.fields["type"] = kind
    job.hold = rng.random() < 0.04
    if job.hold:
        job.fields["if_unsure"] = "hold"
    if rng.random() < 0.3:
        job.fields["reply"] = f"r{rng.randrange(REPLIES)}"
    if rng.random() < 0.03:
        job.after = rng.randrange(200, 3000)
    marks = [add_fault(rng, job, kind, True)] if rng.random() < 0.2 else []
    if not marks and rng.random() < 0.05:
        marks = [f"delay={rng.randrange(300, 1500)}"]
    if not job.faulty and rng.random() < 0.02:
        job.expires = rng.choice((-1000, 0, 300, 1500, 60000))
        job.errors |= {("ExpiredError", 0)}
        job.must_fail = job.expires <= 0
    if not job.hold and not job.faulty and job.expires is None and rng.random() < 0.015:
        job.cancel_at = rng.randrange(0, 2000)
        job.errors |= {("CancelledError", 0)}
    if kind == "transcribe":
        parent = job.parent = parents.pop(rng.randrange(len(parents)))
        job.source = rng.choice(transcribe_sources)
        # The first delay only makes the language unique, so that a fault that passes is counted for this job alone.
        job.fields["language"] = f"twi stub({marks[0]},delay={number},delay=30)" if job.faulty else "twi"
        job.call = (PATHS[kind], parent.call[1])
        job.want = ("text", parent.call[1])
        return job
    text = f"{'Good morning' if kind == 'translate' else 'Me ho yɛ'} {number}" + (f" stub({marks[0]})" if marks else "")
    job.fields["text"] = text
    job.call = (PATHS[kind], text)
    if kind == "translate":
        pair = job.fields["language_pair"] = rng.choice(PAIRS)
        job.want = ("text", f"[{pair.split('-', 1)[1]}] {text}")
    else:
        job.fields["language"] = rng.choice(VOICES)
        job.fields["output"] = rng.choice(("key", "key", "base64"))
        job.want = ("sha256", text)
        if not job.must_fail and not job.hold and not job.errors and not (marks and not job.faulty):
            parents.append(job)
    return job


def source_of(job, made, audio, folder):
    """Gives a transcription the audio that its parent has made: as a key, in itself, or as a file."""
    if job.source == "key" and "audio_key" in made:
        job.fields["audio_key"] = made["audio_key"]
    elif job.source == "path":
        with open(f"{folder}/{job.id}.wav", "wb") as f:
            f.write(audio)
        job.fields["audio_path"] = f"{job.id}.wav"
    else:
        job.fields["audio_base64"] = base64.b64encode(audio).decode()


def make_blows(rng, counts, seats, seconds, lease_s):
    """[(offset, kind, seat, parameter)], in order of time. Each kind is spread evenly, so that two restarts of Redis are not one."""
    blows = []

    def spread(kind, number, parameter):
        for i in range(number):
            at = seconds * (0.03 + 0.94 * (i + rng.random()) / number)
            blows.append((round(at, 3), kind, rng.randrange(seats), parameter(i)))

    spread("kill", counts["KILLS"], lambda i: None)
    spread("stop", counts["STOPS"], lambda i: round(lease_s + rng.uniform(0.3, 2.5), 3))
    spread("short stop", counts["STOPS"] // 2, lambda i: round(rng.uniform(0.05, lease_s / 3), 3))
    spread("term", counts["TERMS"], lambda i: round(rng.uniform(0.02, 0.4), 3) if i % 2 else None)
    spread("restart", counts["RESTARTS"], lambda i: ("SHUTDOWN" if i % 2 else "kill -9", round(rng.choice((0.0, 0.3, 1.0, lease_s + 1.0)), 3)))
    spread("cut", counts["CUTS"], lambda i: (("silent", "replies", "reset")[i % 3], round(rng.choice((0.3, 1.0, lease_s + 1.5)), 3)))
    spread("slow", counts["CUTS"], lambda i: round(rng.uniform(0.5, 3.0), 3))
    spread("flush", counts["FLUSHES"], lambda i: None)
    spread("client kill", counts["FLUSHES"], lambda i: None)
    spread("full", counts["FULLS"], lambda i: round(rng.uniform(0.3, 2.0), 3))
    spread("pause", counts["PAUSES"], lambda i: (rng.choice(QUEUES), rng.randrange(200, 2000)))
    for i in range(counts.get("FAILOVERS", 0)):
        blows.append((FAILOVER_S * (i + 0.5), "failover", 0, (rng.choice(QUEUES), rng.choice((0.5, 2.0, 6.0)))))
    return sorted(blows, key=lambda b: b[0])


def rng_of(seed, part):
    """Parts draw from streams of their own, so that more blows do not make other jobs."""
    return random.Random(f"{seed}/{part}")
