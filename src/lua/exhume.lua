-- Takes entries out of dead: their jobs go back to ready as new, or the entries go for good.
--
-- One script, because a job must be in dead or in ready, whenever the asker dies and however many ask at once; and because its id counts as
-- used while its old result exists.
--
-- KEYS  1 dead  2 dead_bytes  3 ready  4 cancelled
--       then for each entry that goes back: result  crashes of the payload as it died  crashes of the payload as it goes back
-- ARGV  for each entry three: the entry, the payload that goes back to the end of ready that is served last ('' for good), its id
-- RETURNS a letter for each entry: 1 done  g gone: dead does not hold it any more, nothing was done  s its job has succeeded since: the entry
--         goes, and the job does not go back
local call = redis.call
local dead, dead_bytes, ready, cancelled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- A key of the wrong type must raise here, before the first write: scripts are not rolled back.
call('LLEN', ready)
call('ZCARD', cancelled)
local bytes = tonumber(call('GET', dead_bytes) or 0) or 0

-- The first status in a result is its own; a later one may be part of what the API answered.
local function succeeded(result)
	local t = call('TYPE', result).ok
	return t == 'list' and string.match(call('LINDEX', result, 0), '"status":%s*"(%a+)"') == 'succeeded'
end

local letters, key = {}, 5
for a = 1, #ARGV, 3 do
	local entry, payload, id = ARGV[a], ARGV[a + 1], ARGV[a + 2]
	-- The removal comes first: Redis checks for out-of-memory at the first write only, and what goes back takes less than it took here.
	if call('LREM', dead, -1, entry) == 0 then
		letters[#letters + 1] = 'g'
	else
		bytes = math.max(bytes - #entry, 0)
		local letter = '1'
		if payload ~= '' and succeeded(KEYS[key]) then
			letter = 's'
		elseif payload ~= '' then
			call('DEL', KEYS[key], KEYS[key + 1], KEYS[key + 2])
			call('ZREM', cancelled, id)
			call('LPUSH', ready, payload)
		end
		letters[#letters + 1] = letter
	end
	if payload ~= '' then key = key + 3 end
end
if call('LLEN', dead) == 0 then
	call('DEL', dead_bytes)
elseif string.find(table.concat(letters), '[1s]') then
	call('SET', dead_bytes, string.format('%.0f', bytes))
end
return table.concat(letters)
