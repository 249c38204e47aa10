-- flags: allow-oom
-- Forget a tenant's cut-off in one shard once it decides nothing any more: it is a minute old, so that no sign-in under way
-- can be older, and no session that it concerns is left to record.
-- KEYS cutoff tenant parked
-- ARGV now tenant
-- Returns 1 if there is none (left), -1 if the index may not hold everyone: it was parked, and the repair pass that has
-- to fill it anew may have been killed
local before = cutoff_of(KEYS[1], ARGV[2])
if not before then return 1 end
if before + 60000 > tonumber(ARGV[1]) or redis.call('ZCOUNT', KEYS[2], 1, whole((before + 1) * KINDS - 1)) > 0 then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
redis.call('HDEL', KEYS[1], ARGV[2], ARGV[2] .. ' by')
return 1
