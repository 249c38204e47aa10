-- flags: allow-oom
-- Bring what is kept about one session back to what the invariants allow, and change nothing that already is.
-- KEYS session user ended tenant due cutoff events counts endings eventids
-- ARGV now retention tenant user sid idle cut cut_at not_after kind
-- Returns the names of the damages found. A session that the tenant's index still counts as living (its score there is
-- not negative) has had no end event, so it gets one now; any other is only cleared away.
local now, retention, tenant, user, sid = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local rules, not_after = rules_of(ARGV[6], ARGV[7], ARGV[8]), tonumber(ARGV[9])
local where = where_from(2)
local living_at = created_ms(sid) * KINDS + ARGV[10]
local h = redis.call('HMGET', KEYS[1], 'exp', 'gen', 'cur', 'act')
local expires = expiry_of(h[1])
local active = tonumber(redis.call('ZSCORE', where.user, sid) or '')
local tomb = tonumber(redis.call('ZSCORE', where.ended, sid) or '')
local place = tonumber(redis.call('ZSCORE', where.tenant, sid) or '')
local due = redis.call('ZSCORE', where.due, sid)
local damages = {}
local function damaged(name) damages[#damages + 1] = name end

local function clear()
  redis.call('UNLINK', KEYS[1])
  for _, key in ipairs({where.user, where.ended, where.tenant, where.due}) do redis.call('ZREM', key, sid) end
  redis.call('HDEL', where.endings, sid)
end

local function end_now()
  local at, reason = natural_end(sid, expires or now + 1, active or now, rules, cutoff_of(where.cutoff, tenant), now)
  if expires then not_after = math.min(not_after, math.ceil(expires / 1000)) end
  finish(where, sid, tenant, user, at or now, reason or 'admin', not_after, retention, not at and 'worker')
  carry_out()
  if not expires then clear() end
end

if active and tomb then
  damaged('ended yet alive')
  redis.call('ZREM', where.user, sid)
  active = nil
end
if active then
  if not (expires and h[2] and h[3]) then
    damaged('alive without a record')
    end_now()
  else
    if not due then
      damaged('alive without a deadline')
      redis.call('ZADD', where.due, whole(now), sid)
    end
    if place ~= living_at then
      damaged('alive but not in the tenant')
      redis.call('ZADD', where.tenant, whole(living_at), sid)
    end
  end
elseif tomb then
  if not expires then
    damaged('ended without a record')
    clear()
  else
    if not due then
      damaged('ended without a burial')
      redis.call('ZADD', where.due, whole(math.floor(tomb / 16) + retention), sid)
    end
    if place ~= -living_at then
      damaged('ended but not so in the tenant')
      redis.call('ZADD', where.tenant, whole(-living_at), sid)
    end
  end
elseif place and place > 0 and expires then
  damaged('neither alive nor ended')
  end_now()
elseif place and place < 0 and expires and due and redis.call('ZCARD', where.ended) >= TOMBSTONES_PER_USER then
  return damages -- its tombstone was pushed out by later ones, and it waits for its burial
elseif expires or place or due then
  damaged('a remainder')
  clear()
end
return damages
