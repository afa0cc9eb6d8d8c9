-- Settles m jobs and claims up to n in one step.
--
-- One script, because a job must never be in two states or in none: emptying its slot, writing its result, reply, audio, dead entry and
-- counters is one step, and so is leaving ready and entering a slot.
--
-- KEYS  1 stats  2 workers  3 ready  4 paused  5 delayed  6 dead  7 dead_bytes  8 cancelled  9 billed
--       then for each settlement: slot; result where how has R or D; reply where p; stage and audio where a; pieces where f; stream and cursor where s;
--       crashes where c
--       then the n slots to fill
-- ARGV  1 worker that claims  2 worker being reaped, or ''  3 '1' when this turn may have been carried out before  4 m  5 n
--       6 bytes to claim at most  7 dead_max_jobs  8 dead_max_bytes  9-12 what was sent for these jobs: requests, characters,
--       audio seconds, tokens
--       then for each settlement six: how, identity, outcome, body, number, dead entry
--         how       R result (p: also to its reply list, a: its audio is staged, f: its finished pieces are forgotten, d: also to dead,
--                   s<from>,<to>: its stream ends with done or error, and these bytes of the body), L to delayed in `number` ms, at once if it is cancelled
--                   (s<attempt>,<ttl>: its stream goes on with restart),
--                   U to delayed until `number`, D dropped because its id has a result already, B back to ready (c: count a crash for `number` ms), X to dead alone
--         identity  the payload that the slot must hold, or '#' and its SHA-1 where it is large
--         outcome   the counter, or ''
--         body      R the result, L and U the payload to keep, else ''
--         number    R time to live in ms
--         dead entry  for L the id instead
-- RETURNS {a letter for each settlement, claim state, whether any id is cancelled 0|1, payloads...}: payload i is what slot i holds now.
--   letters  1 done (now, or before by this very turn)  f fenced: the slot does not hold that job
--            d the id has a result already  n (only D) it has none, nothing was done  w its result's key has a wrong type, nothing was done
--            y the same of its reply list  s its staged audio is gone, nothing was done
--   state    '' all n  e ready ran empty  b enough bytes  u worker not listed  p paused  o Redis is out of memory  a the worker
--            to be reaped is alive: nothing was done at all
local call, pcall, byte, sub, find = redis.call, redis.pcall, string.byte, string.sub, string.find
local KEYS, ARGV = KEYS, ARGV -- looked up by name a dozen times a job otherwise
local stats, workers, ready, delayed, dead, dead_bytes, cancelled = KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local units = {'request', 'character', 'audio_second', 'token'}
local head = 12 -- arguments before the first settlement's
local m, n = tonumber(ARGV[4]), tonumber(ARGV[5])
local repeated = ARGV[3] == '1'
local now

local function time_ms()
	if not now then
		local t = call('TIME')
		now = t[1] * 1000 + math.floor(t[2] / 1000)
	end
	return now
end

-- A key of the wrong type must raise here, before the first write: scripts are not rolled back.
call('HLEN', stats)
call('ZCARD', delayed)
call('LLEN', dead)
call('STRLEN', dead_bytes)
if ARGV[2] ~= '' then
	local lease = call('ZSCORE', workers, ARGV[2])
	if lease and tonumber(lease) > time_ms() then
		return {'', 'a', 0}
	end
end

-- Where each settlement's keys begin; and whether any result is there already, in one look.
local first, results, k = {}, {}, 10
for i = 1, m do
	local how = ARGV[head - 5 + i * 6]
	first[i] = k
	k = k + 1
	if byte(how) == 82 or byte(how) == 68 then
		results[#results + 1] = KEYS[k]
		k = k + 1
	end
	if #how > 1 then
		if find(how, 'p', 2, true) then k = k + 1 end
		if find(how, 'a', 2, true) then k = k + 2 end
		if find(how, 'f', 2, true) then k = k + 1 end
		if find(how, 's', 2, true) then k = k + 2 end
		if find(how, 'c', 2, true) then k = k + 1 end
	end
end
local claim_at = k
local any_result = #results > 0 and call('EXISTS', unpack(results)) > 0
local any_cancelled = call('TYPE', cancelled).ok == 'zset'
local id_at = #stats + 3 -- an id in the name of its result: after the stem that stats has too, and 'result:'

-- Claims come before the settlements: so a full Redis refuses them (its check is at the first write), but never a result.
local state, claimed, nclaimed = '', {}, 0
if n > 0 then
	if not call('ZSCORE', workers, ARGV[1]) then
		state = 'u'
	elseif call('EXISTS', KEYS[4]) == 1 then
		state = 'p'
	else
		local left = tonumber(ARGV[6])
		local adopt = call('EXISTS', unpack(KEYS, claim_at, claim_at + n - 1)) > 0
		for i = 1, n do
			local slot = KEYS[claim_at + i - 1]
			local job = adopt and call('LINDEX', slot, 0)
			if not job then
				job = pcall('LMOVE', ready, slot, 'RIGHT', 'LEFT')
				if type(job) == 'table' then
					local full = find(job.err, 'OOM', 1, true) -- Redis 6.2 puts a dash before it
					if nclaimed == 0 and not (full and full < 3) then return job end
					state = 'o'
					break
				end
			end
			if not job then
				state = 'e'
				break
			end
			nclaimed = nclaimed + 1
			claimed[nclaimed] = job
			left = left - #job
			if left <= 0 and i < n then
				state = 'b'
				break
			end
		end
	end
end

-- The slot's job when it is the one meant; the slot is empty then.
local function take(slot, identity)
	if byte(identity) ~= 35 then
		return call('LREM', slot, '1', identity) == 1 and identity -- a number as such would be printed and read
	end
	for _, held in ipairs(call('LRANGE', slot, 0, -1)) do
		if '#' .. redis.sha1hex(held) == identity then
			call('LREM', slot, '1', held)
			return held
		end
	end
	return false
end

local function bury(entry)
	local jobs, bytes = call('LPUSH', dead, entry), #entry
	if jobs == 1 then
		call('SET', dead_bytes, bytes)
		return
	end
	bytes = bytes + (tonumber(call('GET', dead_bytes)) or 0)
	for _ = 1, 1000 do
		if jobs <= 1 or (jobs <= tonumber(ARGV[7]) and bytes <= tonumber(ARGV[8])) then break end
		bytes = bytes - #call('RPOP', dead)
		jobs = jobs - 1
	end
	call('SET', dead_bytes, string.format('%.0f', bytes))
end

local function type_is(key, wanted)
	local t = call('TYPE', key).ok
	return t == 'none' or t == wanted
end

local function tell(stream, cursor, event, data, ttl)
	call('XADD', stream, 'MAXLEN', '~', '20000', '*', 'event', event, 'data', data)
	call('PEXPIRE', stream, ttl)
	call('DEL', cursor)
end

local counts, letters = {}, {}
local took = false -- whether a slot held its job: then this turn was not carried out before

local function settle(i)
	local a, key = head - 5 + i * 6, first[i]
	local how, identity, outcome, body, number = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
	local slot, kind, plain = KEYS[key], byte(how), #how == 1
	local result, reply, stage, audio, pieces, stream, cursor, from, to
	if kind == 82 then
		key = key + 1
		result = KEYS[key]
		if not plain then
			if find(how, 'p', 2, true) then
				key = key + 1
				reply = KEYS[key]
			end
			if find(how, 'a', 2, true) then
				stage, audio = KEYS[key + 1], KEYS[key + 2]
				key = key + 2
			end
			if find(how, 'f', 2, true) then
				key = key + 1
				pieces = KEYS[key]
			end
		end
		if any_result and not type_is(result, 'list') then return 'w' end
		if reply and not type_is(reply, 'list') then return 'y' end
		if stage and call('EXISTS', stage) == 0 and call('LLEN', slot) > 0 and call('EXISTS', result) == 0 then return 's' end
	end
	if not plain and (kind == 82 or kind == 76) and find(how, 's', 2, true) then
		stream, cursor = KEYS[key + 1], KEYS[key + 2]
		from, to = string.match(how, 's(%d+),(%d+)')
		if not type_is(stream, 'stream') then return 'w' end
	end
	if kind == 68 and call('TYPE', KEYS[key + 1]).ok ~= 'list' then return 'n' end
	local job = take(slot, identity)
	if not job then
		if (result and call('LINDEX', result, 0) == body) or ((kind == 76 or kind == 85) and call('ZSCORE', delayed, body)) then
			return '1'
		end
		if result and not repeated then counts.fenced = (counts.fenced or 0) + 1 end
		return 'f'
	end
	took = true
	if kind == 82 then
		if call('RPUSH', result, body) > 1 then
			call('RPOP', result)
			counts.fenced = (counts.fenced or 0) + 1
			return 'd'
		end
		call('PEXPIRE', result, number)
		if any_cancelled then call('ZREM', cancelled, sub(result, id_at)) end
		if reply then
			call('RPUSH', reply, body)
			call('PEXPIRE', reply, number)
		end
		if stage then
			call('RENAME', stage, audio)
			call('PEXPIRE', audio, number)
		end
		if pieces then call('UNLINK', pieces) end
		if stream then tell(stream, cursor, outcome == 'succeeded' and 'done' or 'error', sub(body, from, to), number) end
		if not plain and find(how, 'd', 2, true) then bury(ARGV[a + 5]) end
	elseif kind == 68 then
		counts.fenced = (counts.fenced or 0) + 1
		return 'd'
	elseif kind == 76 then
		if any_cancelled and call('ZSCORE', cancelled, ARGV[a + 5]) then number = 0 end
		call('ZADD', delayed, time_ms() + tonumber(number), body)
		if stream then tell(stream, cursor, 'restart', '{"attempt":' .. from .. '}', to) end
	elseif kind == 85 then
		call('ZADD', delayed, number, body)
	elseif kind == 66 then
		call('RPUSH', ready, job)
		if not plain then
			call('INCR', KEYS[key + 1])
			call('PEXPIRE', KEYS[key + 1], number)
		end
	else
		bury(ARGV[a + 5])
	end
	if outcome ~= '' then counts[outcome] = (counts[outcome] or 0) + 1 end
	return '1'
end

for i = 1, m do letters[i] = settle(i) end
-- A field that is no number stays as it is.
for outcome, count in pairs(counts) do pcall('HINCRBY', stats, outcome, count) end
-- Whether a turn that comes again was counted its own results cannot tell: they may have been read and removed meanwhile, and a job that went
-- back leaves none.
if took or not repeated then
	for i, unit in ipairs(units) do
		if ARGV[8 + i] ~= '0' then pcall('HINCRBY', KEYS[9], unit, ARGV[8 + i]) end
	end
end
return {table.concat(letters), state, n > 0 and call('EXISTS', cancelled) or 0, unpack(claimed)}
