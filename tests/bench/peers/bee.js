// Bee-queue tells a result to whoever listens at that moment, and forgets it. What a job's data hold when it ends is kept, in the same
// write that is made anyway: the result goes there as well.
"use strict";
const Queue = require("bee-queue");
const { CONCURRENCY, redis, ids, job, translate, main } = require("./peer.js");

const queue = (isWorker) => new Queue("translate", { redis, isWorker, getEvents: false, storeJobs: false });

main({
  version: () => [require("bee-queue/package.json").version],
  load: async (n) => {
    const q = queue(false);
    const failed = await q.saveAll(ids(n).map((id, i) => q.createJob(job(id, i)).setId(id)));
    if (failed.size) throw new Error(`${failed.size} jobs were not taken`);
  },
  work: () =>
    queue(true).on("error", console.error).process(CONCURRENCY, async (job) => (job.data.result = await translate(job.data))),
  results: (n) => {
    const q = queue(false);
    return Promise.all(ids(n).map((id) => q.getJob(id).then((job) => job.data.result)));
  },
});
