-- No allow-oom flag, on purpose: when memory is full no session begins, unless another is evicted for it.
-- Begin a session and evict the least recently active beyond the limit.
-- KEYS session user ended tenant due cutoff events counts endings eventids once
-- ARGV now retention tenant user sid idle cut cut_at not_after deadline limit reject keep_until fingerprint kind by
--      field value …
-- A fingerprint that is not empty makes the call one that may be repeated for a day: `once` remembers what came of it.
-- Returns {'ok', evicted…} | {'cut', ms}: take an id newer than that | {'settle', sid…} | {'over'} | {'limit'}
--         | {'again', fingerprint, sid, evicted…}: what an earlier call with the same `once` has done
local now, retention, tenant, user, sid = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local rules = rules_of(ARGV[6], ARGV[7], ARGV[8])
local not_after, deadline, limit, keep_until = tonumber(ARGV[9]), ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[13])
local where = where_from(2)
local cutoff, fingerprint = cutoff_of(where.cutoff, tenant), ARGV[14]

local known = fingerprint ~= '' and redis.call('GET', KEYS[11])
if known then return {'again', unpack(cjson.decode(known))} end
if cutoff and created_ms(sid) <= cutoff then return {'cut', whole(cutoff)} end
if redis.call('EXISTS', KEYS[1]) == 1 then -- a repeat, whose first call was not answered: it may have ended since
  if redis.call('ZSCORE', where.user, sid) then return {'ok'} end
  return {'again', fingerprint, sid}
end

local over = redis.call('ZCARD', where.user) + 1 - limit
local evicted = {}
if over > 0 then
  local stale = unsettled(where, rules, cutoff, now, LOOKS)
  if #stale > 0 then return {'settle', unpack(stale)} end
  if ARGV[12] == '1' then return {'limit'} end
  if over > ENDS then return {'over'} end
  evicted = redis.call('ZRANGE', where.user, 0, over - 1)
end

for _, victim in ipairs(evicted) do
  finish(where, victim, tenant, user, now, 'evicted', not_after, retention, ARGV[16] .. ' ' .. whole(limit))
end
carry_out()
redis.call('ZCARD', where.due) -- what is of the wrong kind is met before a session has begun
redis.call('ZADD', where.tenant, whole(created_ms(sid) * KINDS + ARGV[15]), sid)
redis.call('ZADD', where.due, deadline, sid)
redis.call('HSET', KEYS[1], unpack(ARGV, 17))
redis.call('PEXPIREAT', KEYS[1], whole(keep_until))
redis.call('ZADD', where.user, whole(now), sid)
if now + redis.call('PTTL', where.user) < keep_until then
  redis.call('PEXPIREAT', where.user, whole(keep_until))
end
if fingerprint ~= '' then
  redis.call('SET', KEYS[11], cjson.encode({fingerprint, sid, unpack(evicted)}), 'PX', whole(DAY))
end
local name = counted_as(waiting_in(where.counts), tenant, now, 'created', ARGV[15])
if name then redis.pcall('HINCRBY', where.counts, name, 1) end
return {'ok', unpack(evicted)}
