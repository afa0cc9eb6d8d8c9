-- Adds a piece to a staged audio, which a later turn renames to its place.
--
-- One script, because a plain APPEND is refused by a full Redis and this answer has been paid for: once a write that frees has run (PEXPIRE
-- counts as one), Redis lets the others of the script pass. Also so that no piece can ever stay without an expiry.
--
-- KEYS  1 stage
-- ARGV  1 bytes  2 '1' for the first piece  3 time to live in ms
-- RETURNS the length so far, or -1 when the earlier pieces are gone
local call = redis.call
call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[2] == '1' then
	call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
	return #ARGV[1]
end
if call('EXISTS', KEYS[1]) == 0 then return -1 end
local len = call('APPEND', KEYS[1], ARGV[1])
call('PEXPIRE', KEYS[1], ARGV[3])
return len
