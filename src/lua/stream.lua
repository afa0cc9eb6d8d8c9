-- Partial output of a streaming job: begins an attempt's, or adds pieces to it.
--
-- One script, because pieces of an attempt that others have replaced, or that are sent again after a lost reply, must not come in: the cursor says
-- whose turn it is, and how many pieces of it are there. So that a full Redis does not stop a stream that is paid for, a write that takes no memory
-- comes first. Lost reply: made again; a beginning begins anew, and pieces that are there already are passed over.
--
-- KEYS  1 stream  2 cursor  3 slot
-- ARGV  1 name of the attempt  2 time to live in ms  3 number of the first piece, or 0 to begin
--       then to begin: 4 the payload that the slot must hold, or '#' and its SHA-1  5 which attempt it is
--       else 4... the pieces
-- RETURNS how many pieces of the attempt are there; -1 when the job is not ours to write for (any more)
local call, find = redis.call, string.find
local stream, cursor, ttl, first = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3])

local function add(event, data)
	call('XADD', stream, 'MAXLEN', '~', '20000', '*', 'event', event, 'data', data)
end

local function is_ours(identity)
	local job = call('LINDEX', KEYS[3], 0)
	return job and (job == identity or '#' .. redis.sha1hex(job) == identity)
end

local function begin()
	if not is_ours(ARGV[4]) then return -1 end
	local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
	call('PEXPIRE', cursor, ttl)
	if last and last[2][2] ~= 'restart' then
		add('restart', '{"attempt":' .. ARGV[5] .. '}')
		call('PEXPIRE', stream, ttl)
	end
	call('SET', cursor, ARGV[1] .. ' 0', 'PX', ttl)
	return 0
end

if first == 0 then return begin() end
local at = call('GET', cursor)
local space = at and find(at, ' ', 1, true)
if not space or string.sub(at, 1, space - 1) ~= ARGV[1] then return -1 end
local n = tonumber(string.sub(at, space + 1))
call('PEXPIRE', cursor, ttl)
for i = 4, #ARGV do
	if first + i - 4 > n then
		add('chunk', ARGV[i])
		n = n + 1
	end
end
call('SET', cursor, ARGV[1] .. ' ' .. n, 'PX', ttl)
call('PEXPIRE', stream, ttl)
return n
