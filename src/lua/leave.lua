-- Strikes a worker off the list if all its slots are empty.
--
-- One script, because a job that enters a slot between the look and the striking off would be stranded: nobody would look there again.
--
-- KEYS  1 workers  2 worker:<id>  3... all its slots
-- ARGV  1 worker id  2 'expired': only if its lease has run out; else ''
-- RETURNS how many slots are full (then nothing was done), 0 when it is off the list, -1 when its lease is alive
local call = redis.call
if ARGV[2] == 'expired' then
	local lease, t = call('ZSCORE', KEYS[1], ARGV[1]), call('TIME')
	if lease and tonumber(lease) >= t[1] * 1000 + math.floor(t[2] / 1000) then return -1 end
end
local full = 0
for at = 3, #KEYS, 1000 do full = full + call('EXISTS', unpack(KEYS, at, math.min(at + 999, #KEYS))) end
if full == 0 then
	call('ZREM', KEYS[1], ARGV[1])
	call('DEL', KEYS[2])
end
return full
