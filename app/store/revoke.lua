-- flags: allow-oom
-- End one session.
-- KEYS session user ended tenant due cutoff events counts endings eventids
-- ARGV now retention tenant user sid idle cut cut_at not_after reason by [generation digest]
-- With the generation and digest of a refresh token: a token that rotate.lua would take for theft ends it for that reason.
-- Returns 1 if this call ended it, 0 if it was over (time may have ended it unrecorded: then it is recorded now)
local now, retention, tenant, user, sid = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local rules, not_after = rules_of(ARGV[6], ARGV[7], ARGV[8]), tonumber(ARGV[9])
local where = where_from(2)

local active = tonumber(redis.call('ZSCORE', where.user, sid) or '')
if not active then return 0 end
local expires = expiry_of(redis.call('HGET', KEYS[1], 'exp'))
if expires then not_after = math.min(not_after, math.ceil(expires / 1000)) else expires = now end
local at, reason = natural_end(sid, expires, active, rules, cutoff_of(where.cutoff, tenant), now)
if not at and ARGV[12] then
  local h = redis.call('HMGET', KEYS[1], 'gen', 'cur', 'par')
  local stored, generation = tonumber(h[1] or '0'), tonumber(ARGV[12])
  local current = generation == stored and ARGV[13] == h[2]
  local parent = generation < stored and ARGV[13] == h[3]
  if not (current or parent or generation > stored) then reason = 'refresh_token_reused' end
end
finish(where, sid, tenant, user, at or now, reason or ARGV[10], not_after, retention, not at and ARGV[11])
carry_out()
return at and 0 or 1
