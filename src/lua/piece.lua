-- Keeps a finished piece of a long text, which has been paid for, until the whole is done.
--
-- One script, because a plain HSET is refused by a full Redis: once a write that frees has run, Redis lets the others of the script pass. Also
-- so that no piece can ever stay without an expiry. Lost reply: made again, writes the same.
--
-- KEYS  1 pieces
-- ARGV  1 name of the piece  2 the piece  3 time to live in ms
-- RETURNS 1
local call = redis.call
call('HDEL', KEYS[1], ARGV[1])
call('HSET', KEYS[1], ARGV[1], ARGV[2])
return call('PEXPIRE', KEYS[1], ARGV[3])
