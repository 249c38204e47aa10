-- flags: allow-oom
-- End a user's sessions but one, up to ENDS in one act.
-- KEYS user ended tenant due cutoff events counts endings eventids
-- ARGV now retention tenant user except idle cut cut_at not_after reason by
-- Returns {'ok', sid…}: come again until it is empty | {'settle', sid…}
local now, retention, tenant, user = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local rules, not_after = rules_of(ARGV[6], ARGV[7], ARGV[8]), tonumber(ARGV[9])
local where = where_from(1)

local stale = unsettled(where, rules, cutoff_of(where.cutoff, tenant), now, ENDS)
if #stale > 0 then return {'settle', unpack(stale)} end
local ended = {'ok'}
for _, sid in ipairs(redis.call('ZRANGE', where.user, 0, ENDS - 1)) do
  if sid ~= ARGV[5] then
    finish(where, sid, tenant, user, now, ARGV[10], not_after, retention, ARGV[11])
    ended[#ended + 1] = sid
  end
end
carry_out()
return ended
