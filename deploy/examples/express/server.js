// SPDX-License-Identifier: MIT
// Express in front of Adwuma: jobs go into Redis, results and streams come back from there.
//
//     npm ci && PORT=8000 node server.js
//
// A request that waits and a stream that is open have a connection of their own, since a blocked one can do nothing else.
'use strict'
const { isUtf8 } = require('node:buffer')
const { randomUUID } = require('node:crypto')
const path = require('node:path')
const express = require('express')
const Redis = require('ioredis')

const WAIT_S = Number(process.env.WAIT_S ?? 20) // how long a request waits for its result
const KEEPALIVE_S = Number(process.env.KEEPALIVE_S ?? 15) // silence after which a stream says that it is still there
const STREAM_S = 300 // a browser comes back by itself and goes on where it was; nobody holds a connection for ever
const MAX_BODY = 1 << 20
// What may be asked for from outside, and with which fields: no paths, no reply lists, nothing that deletes.
const FIELDS = new Map(Object.entries({
	'translate': ['text', 'language_pair'], 'transcribe': ['audio_base64', 'language', 'timestamps'],
	'synthesize': ['text', 'language', 'speaker', 'format'], 'taskingai.chat_completion': ['params'],
}))
const QUEUES = [...FIELDS.keys()].map(type => type.split('.')[0])

// Sends again what was under way when a connection broke. A job that comes twice so has one id, and one result.
const redis = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379/0', {
	connectTimeout: 3000, commandTimeout: 5000, maxRetriesPerRequest: 1, retryStrategy: times => Math.min(times * 100, 1000),
})
const report = e => console.warn('Redis:', e.message)
redis.on('error', report)

// A connection that may be blocked, and that goes when what it is used for ends.
function connection() {
	const mine = redis.duplicate({ commandTimeout: (Math.max(WAIT_S, KEEPALIVE_S) + 5) * 1000, retryStrategy: null })
	mine.on('error', report)
	return mine
}

// What the client is told instead of an answer.
class Fault extends Error {
	constructor(status, type, message) { super(message); Object.assign(this, { status, type }) }
}

function strings(body, ...names) {
	for (const name of names) if (typeof body[name] !== 'string') throw new Fault(400, 'BadRequest', `${name}: a string is needed`)
}

// The id begins with the queue's name, so it tells where to look for the result.
async function submit(type, fields) {
	const queue = type.split('.')[0], id = `${queue}.${randomUUID()}`
	await redis.lpush(`adwuma:{${queue}}:ready`, JSON.stringify({ ...fields, id, type, enqueued_at_ms: Date.now() }))
	return id
}

// The name of what belongs to a job; an id that cannot be one of ours never comes near Redis.
function key(id, kind) {
	const queue = id.split('.')[0]
	if (!/^[A-Za-z0-9._:-]{1,128}$/.test(id) || !QUEUES.includes(queue)) throw new Fault(404, 'NotFound', 'No such id')
	return `adwuma:{${queue}}:${kind}` + (kind === 'cancelled' ? '' : `:${id}`)
}

// Whose fault it is: the client's, nobody's for long, or ours. A refused API key is ours, so a 401 of the API is none for the browser.
function statusOf(error) {
	if (error.type === 'InvalidJobError' || error.status_code === 400) return 400
	return error.type === 'CancelledError' ? 409 : error.retryable ? 503 : 502
}

const app = express().disable('x-powered-by')
app.use(express.raw({ limit: MAX_BODY, inflate: false, type: () => true }), (req, res, next) => {
	if (req.method !== 'POST') return next()
	// No page of another site may send this type in its visitor's name.
	if (!/^application\/json\s*(;|$)/i.test(req.get('Content-Type'))) throw new Fault(415, 'UnsupportedMediaType', 'application/json is needed')
	// A number that is too large would go on as null, and bytes that are no UTF-8 as something else.
	const checked = (_, value) => { if (Math.abs(value) === Infinity) throw RangeError(); return value }
	try {
		req.body = isUtf8(req.body) && JSON.parse(req.body, checked)
	} catch {
		req.body = null
	}
	if (!req.body || typeof req.body !== 'object' || Array.isArray(req.body)) throw new Fault(400, 'BadRequest', 'The body is no JSON object')
	next()
})

app.post('/translate', async (req, res) => {
	const { text, pair = 'en-tw' } = req.body
	strings({ text, pair }, 'text', 'pair')
	const id = await submit('translate', { text, language_pair: pair })
	const mine = connection(), result = key(id, 'result')
	res.on('close', () => mine.disconnect()) // the client went away
	const raw = await mine.blmove(result, result, 'LEFT', 'LEFT', WAIT_S).catch(() => null) // accepted it is: it can be asked for later
	mine.disconnect()
	if (!raw) return res.status(202).json({ id })
	const done = JSON.parse(raw)
	if (done.status === 'failed') return res.status(statusOf(done.error)).json({ error: done.error })
	res.json({ text: done.result.text })
})

app.post('/jobs', async (req, res) => {
	const { type, ...fields } = req.body, allowed = FIELDS.get(type)
	if (!allowed) throw new Fault(400, 'BadRequest', `type: one of ${[...FIELDS.keys()].join(', ')}`)
	if (!Object.keys(fields).every(name => allowed.includes(name))) throw new Fault(400, 'BadRequest', `${type}: fields are ${allowed.join(', ')}`)
	res.status(202).json({ id: await submit(type, fields) })
})

app.get('/jobs/:id', async (req, res) => {
	const raw = await redis.lindex(key(req.params.id, 'result'), 0)
	if (raw) res.type('json').send(raw)
	else res.status(202).json({ id: req.params.id })
})

app.delete('/jobs/:id', async (req, res) => {
	await redis.zadd(key(req.params.id, 'cancelled'), Date.now(), req.params.id)
	res.status(202).json({ id: req.params.id })
})

app.post('/chat', async (req, res) => {
	const { model, message } = req.body
	strings({ model, message }, 'model', 'message')
	const params = { model_id: model, messages: [{ role: 'user', content: message }], stream: true }
	res.status(202).json({ id: await submit('taskingai.chat_completion', { params }) })
})

const fieldsOf = list => ({ event: list[list.indexOf('event') + 1], data: list[list.indexOf('data') + 1] })
const ends = event => event === 'done' || event === 'error'

app.get('/chat/:id/events', async (req, res) => {
	// A browser that comes back sends the header, while its URL is the old one.
	let last = String(req.get('Last-Event-ID') || req.query.last_event_id || '0-0')
	const stream = key(req.params.id, 'stream'), result = key(req.params.id, 'result')
	if (!/^[0-9]{1,15}-[0-9]{1,15}$/.test(last)) throw new Fault(400, 'BadRequest', 'Last-Event-ID: an id of this stream is needed')
	const [newest] = await redis.xrevrange(stream, '+', '-', 'COUNT', 1)
	if (newest?.[0] === last && ends(fieldsOf(newest[1]).event)) return res.status(204).end() // all was told; a browser does not come again
	res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
	res.write('retry: 1000\n\n')
	const mine = connection(), began = Date.now()
	let spoke = began
	res.on('close', () => mine.disconnect()) // the client went away: this ends what we wait for
	// Waits where the client reads more slowly than we write.
	const say = text => { spoke = Date.now(); if (!res.write(text)) return new Promise(go => res.once('drain', go).once('close', go)) }
	try {
		while (!res.closed && Date.now() < began + STREAM_S * 1000) {
			const over = JSON.parse(await mine.lindex(result, 0)) // before the stream is read: then the stream is complete
			const block = over ? [] : ['BLOCK', Math.min(KEEPALIVE_S, 2) * 1000]
			const found = await mine.xread('COUNT', 100, ...block, 'STREAMS', stream, last)
			for (const [id, list] of found?.[0][1] ?? []) {
				const { event, data } = fieldsOf(list)
				await say(`id: ${last = id}\nevent: ${event}\ndata: ${data}\n\n`)
				if (ends(event)) return
			}
			if (over && !found) { // a job that does not stream has a result alone
				return await say(`event: ${over.error ? 'error' : 'done'}\ndata: ${JSON.stringify(over.error ?? over.result)}\n\n`)
			}
			if (Date.now() > spoke + KEEPALIVE_S * 1000) await say(': still here\n\n')
		}
	} catch (e) {
		if (!res.closed) report(e) // the browser comes back
	} finally {
		mine.disconnect()
		res.end()
	}
})

app.get('/', (req, res) => res.sendFile(path.join(__dirname, '../chat.html')))

app.use((req, res, next) => next(new Fault(404, 'NotFound', 'No such page')))
app.use((e, req, res, next) => {
	if (res.headersSent) return next(e)
	let fault = e
	if (e.status === 413) fault = new Fault(413, 'TooLarge', `More than ${MAX_BODY} bytes`)
	else if (e.status >= 400 && e.status < 500 && !(e instanceof Fault)) fault = new Fault(e.status, 'BadRequest', 'The request cannot be read')
	else if (!(e instanceof Fault)) {
		report(e)
		fault = new Fault(503, 'Unavailable', 'The queue cannot be reached; please try again')
	}
	res.status(fault.status).json({ error: { type: fault.type, message: fault.message, status_code: fault.status } })
})

const server = app.listen(Number(process.env.PORT ?? 8000), '127.0.0.1', e => { if (e) throw e })
server.maxConnections = 1000
