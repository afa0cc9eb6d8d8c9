"""Celery's worker is started as `celery -A celery_app worker`."""
import celery

import peer

app = celery.Celery("peers", broker=peer.REDIS_URL, backend=peer.REDIS_URL)
app.conf.task_default_queue = "translate"


@app.task(name="translate")
def translate(text, language_pair):
    return peer.translate(text, language_pair)


def load(n):
    with app.producer_pool.acquire(block=True) as producer:
        for i, task_id in enumerate(peer.ids(n)):
            translate.apply_async(peer.args(i), task_id=task_id, producer=producer)


def results(n):
    return (app.AsyncResult(task_id).get(timeout=5) for task_id in peer.ids(n))


if __name__ == "__main__":
    peer.main(version=lambda _: [celery.__version__], load=load, results=results)
