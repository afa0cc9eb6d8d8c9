"""RQ's worker forks for each job. As its guide says, it is started by a script that has imported what the jobs need; a connection to the
API cannot outlive a job."""
import redis
import rq

import peer

QUEUE = rq.Queue("translate", connection=redis.Redis.from_url(peer.REDIS_URL))


def load(n):
    QUEUE.enqueue_many([rq.Queue.prepare_data(peer.translate, args=peer.args(i), job_id=job_id) for i, job_id in enumerate(peer.ids(n))])


def work(_):
    rq.Worker([QUEUE], connection=QUEUE.connection).work(logging_level="WARNING")


def results(n):
    return (job.return_value() for job in rq.job.Job.fetch_many(peer.ids(n), connection=QUEUE.connection))


if __name__ == "__main__":
    peer.main(version=lambda _: [rq.VERSION], load=load, work=work, results=results)
