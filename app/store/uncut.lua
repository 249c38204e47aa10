-- flags: allow-oom
-- Forget a tenant's cut-off in one shard once it decides nothing any more: it is a minute old, so that no sign-in under way
-- can be older, and no session that it concerns is left to record.
-- KEYS cutoff tenant
-- ARGV now tenant
-- Returns 1 if there is none (left)
local before = cutoff_of(KEYS[1], ARGV[2])
if not before then return 1 end
if before + 60000 > tonumber(ARGV[1]) or redis.call('ZCOUNT', KEYS[2], 1, whole((before + 1) * KINDS - 1)) > 0 then return 0 end
redis.call('HDEL', KEYS[1], ARGV[2], ARGV[2] .. ' by')
return 1
