-- flags: allow-oom
-- In one shard: every session of a tenant created up to `before` is dead from here on.
-- KEYS cutoff tenant events eventids
-- ARGV now retention tenant shard not_after announce by before
-- Returns how many it concerns, as far as the index can be read
local now, retention, tenant = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local earlier = cutoff_of(KEYS[1], tenant) or 0
local before = math.max(tonumber(ARGV[8]), earlier)
if before > earlier then redis.call('HSET', KEYS[1], tenant, whole(before), tenant .. ' by', ARGV[7]) end
if ARGV[6] == '1' then
  announce({events = KEYS[3], eventids = KEYS[4]}, ARGV[4], tenant, retention,
    {'t', 'tenant.revoked', 'n', tenant, 'r', 'tenant_revoked', 'at', whole(now), 'na', ARGV[5], 'b', whole(before)},
    '"type":"tenant.revoked","tenant_id":"' .. tenant .. '","reason":"tenant_revoked","occurred_at":"' ..
    rfc3339(now) .. '","not_after":' .. ARGV[5] .. ',"before":' .. whole(before) .. '}')
end
local count = redis.pcall('ZCOUNT', KEYS[2], 1, whole((before + 1) * KINDS - 1))
return type(count) == 'number' and count or 0
