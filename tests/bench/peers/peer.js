// What the Node peers share: the call over connections that are kept open, and the verbs that scripts/bench-peers says.
"use strict";
const { Agent, request } = require("undici");

exports.CONCURRENCY = Number(process.env.CONCURRENCY);
exports.redis = { host: "127.0.0.1", port: Number(process.env.REDIS_PORT) };
exports.ids = (n) => Array.from({ length: n }, (_, i) => `b${i}`);
exports.job = (_, i) => ({ text: `Good morning, number ${i}`, language_pair: "en-tw" });

const dispatcher = new Agent({ connections: exports.CONCURRENCY, headersTimeout: 30000, bodyTimeout: 30000 });
const headers = {
  "Content-Type": "application/json",
  "Ocp-Apim-Subscription-Key": "bench",
  "Cache-Control": "no-cache",
  "User-Agent": "peer",
};

exports.translate = async ({ text, language_pair }) => {
  const body = JSON.stringify({ in: text, lang: language_pair });
  const answer = await request(process.env.API_URL, { method: "POST", dispatcher, headers, body });
  const said = await answer.body.json();
  if (answer.statusCode !== 200 || typeof said !== "string") throw new Error(`answer ${answer.statusCode}`);
  return said;
};

exports.main = async (verbs) => {
  const [verb, n] = process.argv.slice(2);
  const out = await verbs[verb](Number(n));
  if (verb !== "work") process.stdout.write((out || []).map((line) => line + "\n").join(""), () => process.exit(0));
};
