-- The keeper's round for one queue: renews (or makes) a worker's lease, moves due jobs to ready, and tells what there is to know.
--
-- One script, because a lease judged by Redis's clock must be read and written in one step (a worker that was struck off must not come back
-- silently), and because a due job that has left delayed must be in ready.
--
-- KEYS  1 workers  2 worker:<id>  3 delayed  4 ready  5 paused  6 dead  7 cancelled
-- ARGV  1 worker id  2 lease_ms  3 'register' or 'renew'  4 most due jobs to move  5 how long a cancelled id is remembered, in ms
--       6... fields and values of worker:<id>
-- RETURNS {state, now_ms, next due time in ms or -1, paused 0|1, ready, delayed, dead, cancelled ids, ids whose lease has run out...}
--   state  'ok', 'late': renewed, but the lease had run out, so others may have begun to empty its slots, 'struck': not listed, not renewed
local call = redis.call
local workers, delayed, ready = KEYS[1], KEYS[3], KEYS[4]
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease = call('ZSCORE', workers, ARGV[1])
local state = 'ok'

call('LLEN', ready)
local cancelled = call('ZCARD', KEYS[7])
if ARGV[3] == 'renew' then
	if not lease then
		state = 'struck'
	elseif tonumber(lease) < now then
		state = 'late'
	end
end
if state ~= 'struck' then
	-- A removal first: Redis checks for out-of-memory at the first write only, and a full Redis must not look like a dead fleet.
	call('ZREM', workers, ARGV[1])
	call('ZADD', workers, now + tonumber(ARGV[2]), ARGV[1])
	call('HSET', KEYS[2], unpack(ARGV, 6))
end

if cancelled > 0 then call('ZREMRANGEBYSCORE', KEYS[7], '-inf', now - tonumber(ARGV[5])) end

local due = call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, ARGV[4])
for i = #due, 1, -1 do
	call('ZREM', delayed, due[i])
	call('RPUSH', ready, due[i])
end
local next_due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
return {state, now, next_due and math.floor(tonumber(next_due)) or -1, call('EXISTS', KEYS[5]), call('LLEN', ready), call('ZCARD', delayed),
	call('LLEN', KEYS[6]), cancelled, unpack(call('ZRANGEBYSCORE', workers, '-inf', now - 1, 'LIMIT', 0, 64))}
