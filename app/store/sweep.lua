-- flags: allow-oom
-- Settle sessions of one shard: end what time has ended, drop old tombstones, re-score the living.
-- KEYS due cutoff events counts endings, then for each session: session user ended tenant eventids
-- ARGV now retention tenants, then for each tenant: name idle cut cut_at not_after, then for each session: sid user,
--      its tenant's number, exp or nothing
-- Returns how many ended
local now, retention, tenants = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 1, tonumber(ARGV[3]) do
  local name, idle, cut, cut_at, not_after = unpack(ARGV, 5 * i - 1, 5 * i + 3)
  tenants[i] = {name = name, rules = rules_of(idle, cut, cut_at), not_after = tonumber(not_after),
                cutoff = cutoff_of(KEYS[2], name)}
end
local ended = 0

local function bury(where, session, sid)
  local score = tonumber(redis.call('ZSCORE', where.ended, sid) or '')
  local until_ms = score and math.floor(score / 16) + retention or 0
  if until_ms > now then
    redis.call('ZADD', where.due, whole(until_ms), sid)
  else
    redis.call('UNLINK', session)
    redis.call('ZREM', where.ended, sid)
    redis.call('ZREM', where.tenant, sid)
    redis.call('ZREM', where.due, sid)
    redis.call('HDEL', where.endings, sid)
  end
end

for i = 0, (#KEYS - 5) / 5 - 1 do
  local k, a = 6 + 5 * i, 4 + 5 * #tenants + 4 * i
  local where = {user = KEYS[k + 1], ended = KEYS[k + 2], tenant = KEYS[k + 3], due = KEYS[1], cutoff = KEYS[2],
                 events = KEYS[3], counts = KEYS[4], endings = KEYS[5], eventids = KEYS[k + 4]}
  local sid, user, tenant, expires = ARGV[a], ARGV[a + 1], tenants[tonumber(ARGV[a + 2])], expiry_of(ARGV[a + 3])
  local active = tonumber(redis.call('ZSCORE', where.user, sid) or '')
  if not active then
    bury(where, KEYS[k], sid)
  else
    local not_after = tenant.not_after
    local found = expires or redis.pcall('HGET', KEYS[k], 'exp') -- an error, of a key that is no hash, is a table
    expires = type(found) ~= 'table' and expiry_of(found)
    if expires then not_after = math.min(not_after, math.ceil(expires / 1000)) else expires = now end
    local at, reason = natural_end(sid, expires, active, tenant.rules, tenant.cutoff, now)
    if at then
      if finish(where, sid, tenant.name, user, at, reason, not_after, retention) then ended = ended + 1 end
    else
      local deadline = tenant.rules.idle > 0 and math.min(expires, active + tenant.rules.idle) or expires
      redis.call('ZADD', where.due, whole(deadline), sid)
    end
  end
end
carry_out()
return ended
