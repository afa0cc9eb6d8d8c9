<?php
// SPDX-License-Identifier: MIT
// PHP in front of Adwuma: jobs go into Redis, results and streams come back from there.
//
//     PHP_CLI_SERVER_WORKERS=16 php -S 127.0.0.1:8000 index.php
//
// That is PHP's own server, to try it; php-fpm serves the same file. A request that waits and a stream that is open hold a process and a connection.
declare(strict_types=1);

const STREAM_S = 300; // a browser comes back by itself and goes on where it was; nobody holds a process for ever
const MAX_BODY = 1 << 20;
// What may be asked for from outside, and with which fields: no paths, no reply lists, nothing that deletes.
const FIELDS = ['translate' => ['text', 'language_pair'], 'transcribe' => ['audio_base64', 'language', 'timestamps'],
	'synthesize' => ['text', 'language', 'speaker', 'format'], 'taskingai.chat_completion' => ['params']];
define('WAIT_S', (float)(getenv('WAIT_S') ?: 20)); // how long a request waits for its result
define('KEEPALIVE_S', (float)(getenv('KEEPALIVE_S') ?: 15)); // silence after which a stream says that it is there, and learns whether its reader is

ini_set('display_errors', '0'); // a warning belongs into the log, never into an answer
set_time_limit(STREAM_S + 60);

// What the client is told instead of an answer.
class Fault extends Exception
{
	public function __construct(public int $status, public string $type, string $message)
	{
		parent::__construct($message);
	}
}

function answer(int $status, mixed $value): void
{
	http_response_code($status);
	header('Content-Type: application/json');
	echo is_string($value) ? $value : json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE);
}

// Made for the request that needs it. The time-out is for a Redis that hangs, so it is longer than we ever block.
function redis(): Redis
{
	static $redis = null;
	if (!$redis) {
		$url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379/0');
		$redis = new Redis();
		$redis->connect($url['host'], $url['port'] ?? 6379, 3, null, 0, max(WAIT_S, KEEPALIVE_S) + 5);
		if (isset($url['pass'])) {
			$redis->auth(array_map('rawurldecode', empty($url['user']) ? [$url['pass']] : [$url['user'], $url['pass']]));
		}
		if ($db = (int)ltrim($url['path'] ?? '', '/')) { // database 0 needs no SELECT, nor the right to it
			$redis->select($db);
		}
	}
	return $redis;
}

// Objects stay objects: as arrays, {} would come out as [].
function body(): stdClass
{
	// No page of another site may send this type in its visitor's name.
	if (!preg_match('~^application/json\s*(;|$)~i', $_SERVER['CONTENT_TYPE'] ?? '')) {
		throw new Fault(415, 'UnsupportedMediaType', 'application/json is needed');
	}
	$raw = file_get_contents('php://input', false, null, 0, MAX_BODY + 1);
	if (strlen($raw) > MAX_BODY) {
		throw new Fault(413, 'TooLarge', 'More than ' . MAX_BODY . ' bytes');
	}
	$found = json_decode($raw);
	return $found instanceof stdClass ? $found : throw new Fault(400, 'BadRequest', 'The body is no JSON object');
}

function strings(stdClass $body, string ...$names): void
{
	foreach ($names as $name) {
		is_string($body->$name ?? null) || throw new Fault(400, 'BadRequest', "$name: a string is needed");
	}
}

function uuid(): string
{
	$bytes = random_bytes(16);
	$bytes[6] = chr(ord($bytes[6]) & 0x0f | 0x40);
	$bytes[8] = chr(ord($bytes[8]) & 0x3f | 0x80);
	return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($bytes), 4));
}

// The id begins with the queue's name, so it tells where to look for the result.
function submit(string $type, array $fields): string
{
	$queue = explode('.', $type)[0];
	$id = "$queue." . uuid();
	$job = ['id' => $id, 'type' => $type, 'enqueued_at_ms' => (int)(microtime(true) * 1000)] + $fields;
	redis()->lPush("adwuma:{{$queue}}:ready", json_encode($job, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE))
		?: throw new RedisException((string)redis()->getLastError());
	return $id;
}

// The name of what belongs to a job; an id that cannot be one of ours never comes near Redis.
function key_of(string $id, string $kind): string
{
	$queue = explode('.', $id)[0];
	if (!preg_match('/^[A-Za-z0-9._:-]{1,128}$/D', $id) || !in_array($queue, array_map(fn($type) => explode('.', $type)[0], array_keys(FIELDS)), true)) {
		throw new Fault(404, 'NotFound', 'No such id');
	}
	return "adwuma:{{$queue}}:$kind" . ($kind === 'cancelled' ? '' : ":$id");
}

// Whose fault it is: the client's, nobody's for long, or ours. A refused API key is ours, so a 401 of the API is none for the browser.
function status_of(stdClass $error): int
{
	return match (true) {
		$error->type === 'InvalidJobError', $error->status_code === 400 => 400,
		$error->type === 'CancelledError' => 409,
		default => $error->retryable ? 503 : 502,
	};
}

function translate(): void
{
	$body = body();
	property_exists($body, 'pair') || $body->pair = 'en-tw';
	strings($body, 'text', 'pair');
	$id = submit('translate', ['text' => $body->text, 'language_pair' => $body->pair]);
	$key = key_of($id, 'result');
	try {
		$raw = redis()->rawCommand('BLMOVE', $key, $key, 'LEFT', 'LEFT', (string)WAIT_S);
	} catch (RedisException) {
		$raw = false; // the job was accepted: it can be asked for later
	}
	if (!$raw) {
		answer(202, ['id' => $id]);
		return;
	}
	$result = json_decode($raw);
	if ($result->status === 'failed') {
		answer(status_of($result->error), ['error' => $result->error]);
	} else {
		answer(200, ['text' => $result->result->text]);
	}
}

function jobs(): void
{
	$fields = (array)body();
	$type = $fields['type'] ?? null;
	unset($fields['type']);
	$allowed = is_string($type) ? FIELDS[$type] ?? null : null;
	$allowed ?? throw new Fault(400, 'BadRequest', 'type: one of ' . implode(', ', array_keys(FIELDS)));
	array_diff(array_keys($fields), $allowed) && throw new Fault(400, 'BadRequest', "$type: fields are " . implode(', ', $allowed));
	answer(202, ['id' => submit($type, $fields)]);
}

function job(string $id): void
{
	$raw = redis()->lIndex(key_of($id, 'result'), 0);
	answer($raw ? 200 : 202, $raw ?: ['id' => $id]);
}

function cancel(string $id): void
{
	redis()->zAdd(key_of($id, 'cancelled'), (int)(microtime(true) * 1000), $id) !== false || throw new RedisException((string)redis()->getLastError());
	answer(202, ['id' => $id]);
}

function chat(): void
{
	$body = body();
	strings($body, 'model', 'message');
	$messages = [['role' => 'user', 'content' => $body->message]];
	answer(202, ['id' => submit('taskingai.chat_completion', ['params' => ['model_id' => $body->model, 'messages' => $messages, 'stream' => true]])]);
}

function events(string $id): void
{
	// A browser that comes back sends the header, while its URL is the old one.
	$last = ($_SERVER['HTTP_LAST_EVENT_ID'] ?? '') ?: ($_GET['last_event_id'] ?? '') ?: '0-0';
	[$stream, $result] = [key_of($id, 'stream'), key_of($id, 'result')];
	if (!is_string($last) || !preg_match('/^[0-9]{1,15}-[0-9]{1,15}$/D', $last)) {
		throw new Fault(400, 'BadRequest', 'Last-Event-ID: an id of this stream is needed');
	}
	$ends = ['done', 'error'];
	foreach (redis()->xRevRange($stream, '+', '-', 1) ?: [] as $newest => $entry) {
		if ($newest === $last && in_array($entry['event'], $ends, true)) {
			http_response_code(204); // all was told; to a browser this says not to come again
			return;
		}
	}
	while (ob_get_level()) {
		ob_end_flush();
	}
	header('Content-Type: text/event-stream');
	header('Cache-Control: no-store');
	header('X-Accel-Buffering: no');
	// PHP ends the program where it finds on writing that the client went away.
	$say = function (string $text) use (&$spoke) { echo $text; flush(); $spoke = microtime(true); };
	$say("retry: 1000\n\n");
	$began = $spoke;
	try {
		while (microtime(true) < $began + STREAM_S) {
			$over = redis()->lIndex($result, 0); // before the stream is read: then the stream is complete
			$block = $over ? [] : [(int)(min(KEEPALIVE_S, 2) * 1000)];
			$found = redis()->xRead([$stream => $last], 100, ...$block);
			foreach ($found[$stream] ?? [] as $last => $entry) {
				$say("id: $last\nevent: {$entry['event']}\ndata: {$entry['data']}\n\n");
				if (in_array($entry['event'], $ends, true)) {
					return;
				}
			}
			if ($over && !$found) { // a job that does not stream has a result alone
				$over = json_decode($over);
				$say('event: ' . (isset($over->error) ? 'error' : 'done') . "\ndata: " . json_encode($over->error ?? $over->result) . "\n\n");
				return;
			}
			if (microtime(true) > $spoke + KEEPALIVE_S) {
				$say(": still here\n\n");
			}
		}
	} catch (RedisException $e) {
		error_log('Redis: ' . $e->getMessage()); // the browser comes back
	}
}

try {
	$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) ?: '';
	$parts = array_map('rawurldecode', explode('/', substr($path, 1)));
	match ([$_SERVER['REQUEST_METHOD'], $parts[0], count($parts), $parts[2] ?? '']) {
		['POST', 'translate', 1, ''] => translate(),
		['POST', 'jobs', 1, ''] => jobs(),
		['GET', 'jobs', 2, ''] => job($parts[1]),
		['DELETE', 'jobs', 2, ''] => cancel($parts[1]),
		['POST', 'chat', 1, ''] => chat(),
		['GET', 'chat', 3, 'events'] => events($parts[1]),
		['GET', '', 1, ''] => readfile(__DIR__ . '/../chat.html'),
		default => throw new Fault(404, 'NotFound', 'No such page'),
	};
} catch (Fault $e) {
	answer($e->status, ['error' => ['type' => $e->type, 'message' => $e->getMessage(), 'status_code' => $e->status]]);
} catch (JsonException) { // infinite numbers, and what is nested too deeply
	answer(400, ['error' => ['type' => 'BadRequest', 'message' => 'The fields cannot be written as JSON', 'status_code' => 400]]);
} catch (RedisException $e) {
	error_log('Redis: ' . $e->getMessage());
	answer(503, ['error' => ['type' => 'Unavailable', 'message' => 'The queue cannot be reached; please try again', 'status_code' => 503]]);
}
