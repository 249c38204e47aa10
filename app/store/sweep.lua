-- flags: allow-oom
-- Settle sessions of one shard: end what time has ended, drop old tombstones, re-score the living.
-- KEYS due cutoff events counts endings, then for each: session user ended tenant
-- ARGV now retention, then for each: sid tenant user idle cut cut_at not_after
-- Returns how many ended
local now, retention = tonumber(ARGV[1]), tonumber(ARGV[2])
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

for i = 0, (#KEYS - 5) / 4 - 1 do
  local k, a = 6 + 4 * i, 3 + 7 * i
  local where = {user = KEYS[k + 1], ended = KEYS[k + 2], tenant = KEYS[k + 3], due = KEYS[1], cutoff = KEYS[2],
                 events = KEYS[3], counts = KEYS[4], endings = KEYS[5]}
  local sid, tenant, user, not_after = ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 6])
  local rules = rules_of(ARGV[a + 3], ARGV[a + 4], ARGV[a + 5])
  local active = tonumber(redis.call('ZSCORE', where.user, sid) or '')
  if not active then
    bury(where, KEYS[k], sid)
  else
    local expires = tonumber(redis.call('HGET', KEYS[k], 'exp') or '')
    if expires then not_after = math.min(not_after, math.ceil(expires / 1000)) else expires = now end
    local at, reason = natural_end(sid, expires, active, rules, cutoff_of(where.cutoff, tenant), now)
    if at then
      finish(where, sid, tenant, user, at, reason, not_after, retention)
      ended = ended + 1
    else
      local deadline = rules.idle > 0 and math.min(expires, active + rules.idle) or expires
      redis.call('ZADD', where.due, whole(deadline), sid)
    end
  end
end
return ended
