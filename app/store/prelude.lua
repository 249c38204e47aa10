-- Stands in front of every script: the rule of life, and the one way a session ends.
-- Times are milliseconds. A `where` table names the declared keys: user, ended, tenant, due, cutoff, events, counts, endings.

local REASONS = {'expired', 'idle_timeout', 'signed_out', 'revoked', 'admin', 'evicted',
                 'refresh_token_reused', 'user_revoked', 'tenant_revoked'}
local CODE = {}
for position, reason in ipairs(REASONS) do CODE[reason] = position - 1 end

local DAY, WEEK = 86400000, 604800000
local LOOKS = 500 -- how many members one act looks at,
local ENDS = 50 -- and how many it may end: some 2 ms, in which nobody else is served
local TOMBSTONES_PER_USER = 1000
local KINDS = 2048 -- of device and country, see app/census.py
local FINE, COARSE = 1000, 10000 -- how many fields of counts may wait to be collected
local CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

local function whole(number) return string.format('%.0f', number) end

-- The creation time that a session id carries in its letters 5 to 14.
local function created_ms(sid)
  local ms = 0
  for i = 5, 14 do ms = ms * 32 + string.find(CROCKFORD, string.sub(sid, i, i), 1, true) - 1 end
  return ms
end

-- A user's keys as scripts declare them, from KEYS[first] on.
local function where_from(first)
  return {user = KEYS[first], ended = KEYS[first + 1], tenant = KEYS[first + 2], due = KEYS[first + 3],
          cutoff = KEYS[first + 4], events = KEYS[first + 5], counts = KEYS[first + 6], endings = KEYS[first + 7]}
end

-- RFC 3339 in UTC; the date by Hinnant's civil_from_days.
local function rfc3339(ms)
  local days = math.floor(ms / 86400000)
  local left = ms - days * 86400000
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    math.floor(left / 3600000), math.floor(left / 60000) % 60, math.floor(left / 1000) % 60, left % 1000)
end

-- idle 0: none. See `Rules` in app/model.py.
local function rules_of(idle, cut, cut_at)
  return {idle = tonumber(idle), cut = tonumber(cut), cut_at = tonumber(cut_at)}
end

local function cutoff_of(key, tenant) return tonumber(redis.call('HGET', key, tenant) or '') end

-- When and why time or a cut-off ended a session; nil while it lives. The twin of natural_end in app/model.py.
local function natural_end(sid, expires, active, rules, cutoff, now)
  local at, reason = expires, 'expired'
  if rules.idle > 0 and active + rules.idle < at then at, reason = active + rules.idle, 'idle_timeout' end
  if active <= rules.cut and math.min(rules.cut_at, now) < at then
    at, reason = math.min(rules.cut_at, now), 'idle_timeout'
  end
  if cutoff and created_ms(sid) <= cutoff and math.min(cutoff, now) < at then
    at, reason = math.min(cutoff, now), 'tenant_revoked'
  end
  if at <= now then return at, reason end
end

-- Append to the shard's log, trimmed by the server's own clock (stream ids are of that clock), and publish.
-- `fields` are the entry; `json` is the message after its id.
local function announce(events, shard, tenant, retention, fields, json)
  local oldest = redis.call('TIME')[1] * 1000 - retention
  local id = redis.call('XADD', events, 'MINID', '~', whole(oldest), '*', unpack(fields))
  redis.call('PUBLISH', 'hj:revocations:' .. tenant, '{"id":"' .. shard .. '-' .. id .. '",' .. json)
end

-- Count for the statistics of a minute; the worker collects what lies here (collect.lua). While nobody does, hours
-- instead of minutes, and in the end nothing more: a worker that starts counts the living anew (recount.lua).
local function count(counts, tenant, at, what, kind)
  local waiting = redis.call('HLEN', counts)
  if waiting >= COARSE then return end
  local minute = waiting < FINE and math.floor(at / 60000) or math.floor(at / 3600000) * 60
  redis.call('HINCRBY', counts, tenant .. ' ' .. whole(minute) .. ' ' .. what .. ' ' .. whole(kind), 1)
end

-- End a session that is a member: out of the user's set, a tombstone, an event. Once only: callers hold membership.
-- `mark` is kept of an end that somebody or a limit decided: `by`, or `by limit`. Of a cut-off it is whose that was.
local function finish(where, sid, tenant, user, at, reason, not_after, retention, mark)
  redis.call('ZREM', where.user, sid)
  redis.call('ZADD', where.ended, whole(at * 16 + CODE[reason]), sid)
  redis.call('ZREMRANGEBYRANK', where.ended, 0, -TOMBSTONES_PER_USER - 1)
  redis.call('PEXPIRE', where.ended, whole(retention + WEEK))
  local place = math.abs(tonumber(redis.call('ZSCORE', where.tenant, sid) or '0'))
  local kind = place - created_ms(sid) * KINDS
  if kind < 0 or kind >= KINDS then kind = 0 end
  redis.call('ZADD', where.tenant, whole(-created_ms(sid) * KINDS - kind), sid)
  redis.call('ZADD', where.due, whole(at + retention), sid)
  count(where.counts, tenant, at, reason, kind)
  if reason == 'tenant_revoked' then mark = redis.call('HGET', where.cutoff, tenant .. ' by') end
  if mark and mark ~= '' then redis.call('HSET', where.endings, sid, mark) end
  local event = reason == 'expired' and 'session.expired' or 'session.revoked'
  announce(where.events, string.sub(sid, 15, 16), tenant, retention,
    {'t', event, 'n', tenant, 'u', user, 's', sid, 'r', reason, 'at', whole(at), 'na', whole(not_after)},
    '"type":"' .. event .. '","tenant_id":"' .. tenant .. '","user_id":' .. cjson.encode(user) ..
    ',"session_id":"' .. sid .. '","reason":"' .. reason .. '","occurred_at":"' .. rfc3339(at) ..
    '","not_after":' .. whole(not_after) .. '}')
end

-- The least recently active members (up to `most`) that time may have ended. What these keys cannot decide (a
-- session's own `exp`) is left to sweep.lua: the caller settles the ids returned here and comes again.
local function unsettled(where, rules, cutoff, now, most)
  local found = {}
  local members = redis.call('ZRANGE', where.user, 0, most - 1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local sid, active = members[i], tonumber(members[i + 1])
    local due = redis.call('ZSCORE', where.due, sid)
    if not due or tonumber(due) <= now
      or (rules.idle > 0 and active + rules.idle <= now) or active <= rules.cut
      or (cutoff and created_ms(sid) <= cutoff) then
      found[#found + 1] = sid
    end
  end
  return found
end
