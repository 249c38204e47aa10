-- flags: allow-oom
-- Works when memory is full: a change may take access away (a role, a second factor).
-- Change what the next access tokens of a live session say, and tell those who verify locally.
-- KEYS session user ended tenant due cutoff events counts endings eventids
-- ARGV now retention tenant user sid idle cut cut_at not_after drops, then as many fields to drop, then field value …
-- Returns {'ok' | 'ended', last active, ended score, hash} or {'missing'}
local now, retention, tenant, user, sid = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local rules, not_after, drops = rules_of(ARGV[6], ARGV[7], ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local where = where_from(2)

local function answer(outcome)
  return {outcome, redis.call('ZSCORE', where.user, sid) or '', redis.call('ZSCORE', where.ended, sid) or '',
          redis.call('HGETALL', KEYS[1])}
end

local expires = expiry_of(redis.call('HGET', KEYS[1], 'exp'))
if not expires then return {'missing'} end
local active = tonumber(redis.call('ZSCORE', where.user, sid) or '')
if not active then return answer('ended') end
not_after = math.min(not_after, math.ceil(expires / 1000))
local at, reason = natural_end(sid, expires, active, rules, cutoff_of(where.cutoff, tenant), now)
if at then
  finish(where, sid, tenant, user, at, reason, not_after, retention)
  carry_out()
  return answer('ended')
end

if drops > 0 then redis.call('HDEL', KEYS[1], unpack(ARGV, 11, 10 + drops)) end
if #ARGV > 10 + drops then redis.call('HSET', KEYS[1], unpack(ARGV, 11 + drops)) end

local h = redis.call('HMGET', KEYS[1], 'org', 'role', 'mfa')
local claims, part = '', redis.call('HGET', KEYS[1], 'claims')
for i = 1, 100 do
  if not part then break end
  claims = claims .. part
  part = redis.call('HGET', KEYS[1], 'claims' .. i)
end
local said = '"claims":' .. (claims == '' and '{}' or claims) ..
  ',"org_id":' .. (h[1] and cjson.encode(h[1]) or 'null') ..
  ',"role":' .. (h[2] and cjson.encode(h[2]) or 'null') ..
  ',"mfa_verified":' .. (h[3] == '1' and 'true' or 'false')
announce(where, string.sub(sid, 15, 16), tenant, retention,
  {'t', 'session.updated', 'n', tenant, 'u', user, 's', sid, 'at', whole(now), 'na', whole(not_after), 'c', said},
  '"type":"session.updated","tenant_id":"' .. tenant .. '","user_id":' .. cjson.encode(user) ..
  ',"session_id":"' .. sid .. '","occurred_at":"' .. rfc3339(now) .. '","not_after":' .. whole(not_after) ..
  ',' .. said .. '}')
return answer('ok')
