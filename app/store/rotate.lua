-- flags: allow-oom
-- Exchange a refresh token (DESIGN §4). Its MAC has been checked: whatever comes here was once issued.
-- KEYS session user ended tenant due cutoff events counts endings eventids
-- ARGV now retention tenant user sid idle cut cut_at not_after limit grace generation digest number successor branch
-- Returns {outcome, branch, last active, ended score, hash} or {'over'} | {'missing'}; 'fresh': nothing has changed, the
-- successor's number is another; 'expiring': nothing has changed, less than a second is left, too little for a token
local now, retention, tenant, user, sid = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local rules = rules_of(ARGV[6], ARGV[7], ARGV[8])
local not_after, limit, grace = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local generation, digest, number, successor, branch = tonumber(ARGV[12]), ARGV[13], tonumber(ARGV[14]), ARGV[15], ARGV[16]
local where = where_from(2)

local function answer(outcome, label)
  return {outcome, label or '', redis.call('ZSCORE', where.user, sid) or '',
          redis.call('ZSCORE', where.ended, sid) or '', redis.call('HGETALL', KEYS[1])}
end

local h = redis.call('HMGET', KEYS[1], 'exp', 'gen', 'cur', 'par', 'rot', 'br')
if not h[1] then return {'missing'} end
local active = tonumber(redis.call('ZSCORE', where.user, sid) or '')
if not active then return answer('ended') end

local expires, stored = expiry_of(h[1]), tonumber(h[2])
not_after = math.min(not_after, math.ceil(expires / 1000))
local at, reason = natural_end(sid, expires, active, rules, cutoff_of(where.cutoff, tenant), now)
if at then
  finish(where, sid, tenant, user, at, reason, not_after, retention)
  carry_out()
  return answer('ended')
end
if redis.call('ZCARD', where.user) > limit then return {'over'} end

local outcome
if generation == stored and digest == h[3] then
  outcome = 'rotated'
elseif generation < stored and digest == h[4] then
  outcome = now - tonumber(h[5]) < grace and 'replayed' or 'rotated'
elseif generation > stored then
  outcome = 'ahead'
else
  finish(where, sid, tenant, user, now, 'refresh_token_reused', not_after, retention)
  carry_out()
  return answer('reused')
end
if expires - now < SECOND then return answer('expiring') end
if outcome ~= 'replayed' and number ~= math.max(generation, stored) + 1 then return answer('fresh') end

local seen = math.max(active, now)
if outcome == 'replayed' then
  branch = h[6]
else
  redis.call('HSET', KEYS[1], 'gen', whole(number), 'cur', successor, 'par', digest,
    'rot', whole(now), 'br', branch)
end
redis.call('HSET', KEYS[1], 'act', whole(seen))
redis.call('ZADD', where.user, whole(seen), sid)
return answer(outcome, branch)
