"""What the Python peers share: the call over connections that are kept open, and the verbs that scripts/bench-peers says.

urllib3 itself, which is what requests stands on: the same pool of connections for half of the CPU."""
import json
import os
import sys

import urllib3

REDIS_URL = f"redis://127.0.0.1:{os.environ['REDIS_PORT']}/0"
API_URL = os.environ["API_URL"]
HEADERS = {"Content-Type": "application/json", "Ocp-Apim-Subscription-Key": "bench", "Cache-Control": "no-cache", "User-Agent": "peer"}
POOL = urllib3.PoolManager(maxsize=int(os.environ["CONCURRENCY"]), timeout=30, retries=False)


def translate(text, language_pair):
    answer = POOL.request("POST", API_URL, body=json.dumps({"in": text, "lang": language_pair}), headers=HEADERS)
    said = json.loads(answer.data)
    if answer.status != 200 or not isinstance(said, str):
        raise ValueError(f"answer {answer.status}")
    return said


def ids(n):
    return [f"b{i}" for i in range(n)]


def args(i):
    return f"Good morning, number {i}", "en-tw"


def main(**verbs):
    """The verb's answer, if it has one, goes out by lines."""
    for line in verbs[sys.argv[1]](int(sys.argv[2])) or ():
        print(line)
