"""A producer of adwumad, in the verbs of its peers."""
import json
import os
import subprocess

import redis

import peer

R = redis.Redis.from_url(peer.REDIS_URL)
BATCH = 1000


def load(n):
    jobs = [json.dumps({"id": job_id, "text": text, "language_pair": pair}) for job_id, (text, pair) in
            ((job_id, peer.args(i)) for i, job_id in enumerate(peer.ids(n)))]
    for i in range(0, n, BATCH):
        R.lpush("adwuma:{translate}:ready", *jobs[i:i + BATCH])


def results(n):
    pipe = R.pipeline(transaction=False)
    for job_id in peer.ids(n):
        pipe.lrange(f"adwuma:{{translate}}:result:{job_id}", 0, -1)
    return (json.loads(result)["result"]["text"] for (result,) in pipe.execute())


def version(_):
    return [subprocess.run([os.environ["ADWUMAD"], "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]]


if __name__ == "__main__":
    peer.main(version=version, load=load, results=results)
