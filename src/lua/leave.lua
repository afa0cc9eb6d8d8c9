-- Strikes a worker off the list if all its slots are empty.
--
-- One script, because a job that enters a slot between the look and the striking off would be stranded: nobody would look there again.
--
-- A dead worker is remembered for a day, with the number of its slots: a BLMOVE that it had sent may still be carried out, and would fill a slot
-- that nobody lists. The keeper looks there again.
--
-- KEYS  1 workers  2 worker:<id>  3 gone  4... all its slots, then sent of each
-- ARGV  1 worker id  2 'expired': only if its lease has run out; else ''
-- RETURNS how many slots are full (then nothing was done), 0 when it is off the list, -1 when its lease is alive
local call = redis.call
local expired, day, now = ARGV[2] == 'expired', 86400000, nil
if expired then
	local lease, t = call('ZSCORE', KEYS[1], ARGV[1]), call('TIME')
	now = t[1] * 1000 + math.floor(t[2] / 1000)
	if lease and tonumber(lease) >= now then return -1 end
	call('ZCARD', KEYS[3])
end
local full, slots = 0, (#KEYS - 3) / 2
for at = 4, 3 + slots, 1000 do full = full + call('EXISTS', unpack(KEYS, at, math.min(at + 999, 3 + slots))) end
if full == 0 then
	local was_listed = call('ZREM', KEYS[1], ARGV[1])
	call('DEL', KEYS[2])
	for at = 4 + slots, #KEYS, 1000 do call('UNLINK', unpack(KEYS, at, math.min(at + 999, #KEYS))) end
	if expired and was_listed == 1 then
		call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - day)
		call('ZADD', KEYS[3], now, slots .. ' ' .. ARGV[1])
		call('PEXPIRE', KEYS[3], day)
	end
end
return full
