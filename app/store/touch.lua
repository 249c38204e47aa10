-- flags: allow-oom
-- Record activity of sessions that are alive now; never of one that time or a revocation has ended.
-- KEYS cutoff, then for each: session user
-- ARGV now, then for each: sid tenant seen idle cut cut_at
-- Returns the sids that were alive
local now = tonumber(ARGV[1])
local alive = {}
for i = 0, (#KEYS - 1) / 2 - 1 do
  local session, user, a = KEYS[2 + 2 * i], KEYS[3 + 2 * i], 2 + 6 * i
  local sid, seen = ARGV[a], tonumber(ARGV[a + 2])
  local expires = expiry_of(redis.call('HGET', session, 'exp'))
  local active = tonumber(redis.call('ZSCORE', user, sid) or '')
  if expires and active and not natural_end(sid, expires, active,
      rules_of(ARGV[a + 3], ARGV[a + 4], ARGV[a + 5]), cutoff_of(KEYS[1], ARGV[a + 1]), now) then
    alive[#alive + 1] = sid
    if seen > active then
      redis.call('HSET', session, 'act', whole(seen))
      redis.call('ZADD', user, whole(seen), sid)
    end
  end
end
return alive
