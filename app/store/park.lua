-- flags: allow-oom
-- Put a key that is of another type than it should be out of the way, for whoever wants to see what it was. In one act,
-- for a sound one may have been written under its name since somebody looked.
-- KEYS key parked
-- ARGV type kept
-- Returns 1 if it was so
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' or found == ARGV[1] then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
