-- flags: allow-oom
-- Trim a user to the limit, the least recently active first, up to ENDS in one act.
-- KEYS user ended tenant due cutoff events counts endings eventids
-- ARGV now retention tenant user limit idle cut cut_at not_after
-- Returns {'ok', sid…}: come again until it is empty | {'settle', sid…}
local now, retention, tenant, user = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local rules, not_after = rules_of(ARGV[6], ARGV[7], ARGV[8]), tonumber(ARGV[9])
local where = where_from(1)

local over = redis.call('ZCARD', where.user) - tonumber(ARGV[5])
if over <= 0 then return {'ok'} end
local stale = unsettled(where, rules, cutoff_of(where.cutoff, tenant), now, LOOKS)
if #stale > 0 then return {'settle', unpack(stale)} end
local victims = redis.call('ZRANGE', where.user, 0, math.min(over, ENDS) - 1)
for _, sid in ipairs(victims) do
  finish(where, sid, tenant, user, now, 'evicted', not_after, retention, 'worker ' .. ARGV[5])
end
carry_out()
return {'ok', unpack(victims)}
