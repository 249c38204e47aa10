-- flags: allow-oom
-- Take what a shard has counted; whoever calls adds it up.
-- KEYS counts
-- Returns field, number … (a field is: tenant minute what kind)
local counts = redis.call('HGETALL', KEYS[1])
if #counts > 0 then redis.call('UNLINK', KEYS[1]) end
return counts
