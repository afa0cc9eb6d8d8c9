"use strict";
const { Queue, Worker } = require("bullmq");
const { CONCURRENCY, redis: connection, ids, job, translate, main } = require("./peer.js");

const queue = () => new Queue("translate", { connection });

main({
  version: () => [require("bullmq/package.json").version],
  load: (n) => queue().addBulk(ids(n).map((jobId, i) => ({ name: "translate", data: job(jobId, i), opts: { jobId } }))).then(() => null),
  work: () => {
    const options = { connection: { ...connection, maxRetriesPerRequest: null }, concurrency: CONCURRENCY };
    new Worker("translate", (job) => translate(job.data), options).on("error", console.error);
  },
  results: (n) => {
    const q = queue();
    return Promise.all(ids(n).map((id) => q.getJob(id).then((job) => job.returnvalue)));
  },
});
