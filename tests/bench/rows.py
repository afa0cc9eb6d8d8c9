"""The rows of the bench, in their order. A row is a function of (lab, rounds, scale) that gives its figures; one function may serve several rows that
are measured in the same runs."""
from dataclasses import dataclass
from typing import Callable

from bench import audio, https, latency, producer, queues, streams, threads, throughput


@dataclass
class Row:
    numbers: tuple
    title: str
    measure: Callable


ROWS = [
    Row((1, 2), "100,000 translate jobs waiting, 16 threads, the API answers at once", throughput.row),
    Row((3, 4), "20,000 jobs, 512 threads, the API takes 200 ms; memory", threads.row),
    Row((5,), "an idle queue, one job at a time", latency.row),
    Row((6,), "1,000,000 jobs waiting against 10,000, 16 threads", queues.backlog),
    Row((7,), "4 processes of 8 threads against 1 of 32, the API takes 20 ms", queues.fleet),
    Row((8,), "eight recordings of 32 MiB at once", audio.row),
    Row((9,), "HTTPS with the system's CA bundle", https.row),
    Row((10,), "two queues of at most 16 calls at once, one full of 1 s calls, one of 1 ms calls", queues.lanes),
    Row((12,), "200 streams at once, each of 50 pieces a second", streams.row),
    Row((13,), "a program over the library; a batch", producer.row),
]
