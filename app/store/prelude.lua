-- Stands in front of every script: the rule of life, and the one way a session ends.
-- Times are milliseconds. A `where` table names the declared keys: user, ended, tenant, due, cutoff, events, counts, endings,
-- eventids.

local SECOND, DAY, WEEK = 1000, 86400000, 604800000
local LOOKS = 500 -- how many members one act looks at,
local ENDS = 25 -- and how many it may end: some 1 ms, in which nobody else is served
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
          cutoff = KEYS[first + 4], events = KEYS[first + 5], counts = KEYS[first + 6], endings = KEYS[first + 7],
          eventids = KEYS[first + 8]}
end

-- RFC 3339 in UTC; the date by Hinnant's civil_from_days, once for each day (the key is its number).
local dates
local function rfc3339(ms)
  local days = math.floor(ms / 86400000)
  dates = dates or {}
  if not dates[days] then
    local z = days + 719468
    local era = math.floor(z / 146097)
    local doe = z - era * 146097
    local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
    local mp = math.floor((5 * doy + 2) / 153)
    local day = doy - math.floor((153 * mp + 2) / 5) + 1
    local month = mp < 10 and mp + 3 or mp - 9
    dates[days] = string.format('%04d-%02d-%02dT', yoe + era * 400 + (month <= 2 and 1 or 0), month, day)
  end
  local left = ms - days * 86400000
  return dates[days] .. string.format('%02d:%02d:%02d.%03dZ', math.floor(left / 3600000), math.floor(left / 60000) % 60,
    math.floor(left / 1000) % 60, left % 1000)
end

-- idle 0: none. See `Rules` in app/model.py.
local function rules_of(idle, cut, cut_at)
  return {idle = tonumber(idle), cut = tonumber(cut), cut_at = tonumber(cut_at)}
end

-- When a session expires, from the text in its hash; nil if there is none. Always a whole second, as answers and
-- tokens show it: sessions created by earlier versions may have a fraction. The twin of session_of in record.py.
local function expiry_of(text)
  local ms = tonumber(text or '')
  return ms and ms - ms % 1000
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

-- The member of `eventids` for an entry of the log: its id with the hyphen replaced by a letter for the length of the
-- sequence number (a: one digit), so that members sort as ids do. The twin of `index_member` in app/client/shards.py.
local function index_member(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return ms .. string.char(96 + #sequence) .. sequence
end

-- The shard's log as the act found it: `oldest` is the first millisecond that is kept (by the server's own clock, of
-- which stream ids are), and `indexed` the first that indexes keep, an hour earlier for readers whose clocks differ; `last`
-- is the id of the last entry, `from` the id behind which `eventids` of every tenant is complete. An entry says so in its
-- field `x`; one without it was written by an earlier version, which has no such index.
local function log_state(events, retention)
  local oldest = redis.call('TIME')[1] * 1000 - retention
  local found = {oldest = oldest, indexed = oldest - 3600000, last = '0', from = '0', sound = {}}
  local entry = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  if not entry then return found end
  found.last, found.from = entry[1], entry[1]
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'x' then found.from = entry[2][i + 1] end
  end
  if tonumber(string.match(found.from, '^%d+') or 0) < found.indexed then found.from = '0' end
  return found
end

-- Drop old members. An index of the wrong type is replaced: then it is complete only from here on.
local function trim_index(eventids, log)
  if log.sound[eventids] then return end
  local old = redis.pcall('ZRANGE', eventids, '-', '(' .. whole(log.indexed), 'BYLEX', 'LIMIT', 0, 100)
  if old.err then
    redis.call('UNLINK', eventids)
    log.from = log.last
  elseif #old > 0 then
    redis.call('ZREM', eventids, unpack(old))
  end
end

-- Append to the shard's log and to the tenant's index of it, and publish. The first of an act trims the log. `fields`
-- are the entry; `json` is the message after its id.
local log
local function announce(where, shard, tenant, retention, fields, json)
  local trim = not log
  log = log or log_state(where.events, retention)
  trim_index(where.eventids, log)
  fields[#fields + 1], fields[#fields + 2] = 'x', log.from
  local id
  if trim then
    id = redis.call('XADD', where.events, 'MINID', '~', whole(log.oldest), '*', unpack(fields))
  else
    id = redis.call('XADD', where.events, '*', unpack(fields))
  end
  log.last = id
  redis.call('ZADD', where.eventids, 0, index_member(id))
  if not log.sound[where.eventids] then
    redis.call('PEXPIRE', where.eventids, retention + DAY)
    log.sound[where.eventids] = true
  end
  redis.call('PUBLISH', 'hj:revocations:' .. tenant, '{"id":"' .. shard .. '-' .. id .. '",' .. json)
end

-- Under which name something is counted for the statistics of a minute, where `waiting` names wait to be collected
-- (collect.lua). While nobody does, by hours instead of minutes, and in the end nothing more: a worker that starts
-- counts the living anew (recount.lua).
local function counted_as(waiting, tenant, at, what, kind)
  if waiting >= COARSE then return nil end
  local minute = waiting < FINE and math.floor(at / 60000) or math.floor(at / 3600000) * 60
  return tenant .. ' ' .. minute .. ' ' .. what .. ' ' .. kind
end

-- How many do; where that cannot be read nothing is counted.
local function waiting_in(counts)
  local waiting = redis.pcall('HLEN', counts)
  return type(waiting) == 'number' and waiting or COARSE
end

-- What an act ends, all of one shard, is noted by `finish` and written by `carry_out`: an index is asked and told of all
-- in one command, and what is of the wrong kind is met by a reading, before anything has changed.
local ends, ending = {}, {}

-- End a session that is a member: out of the user's set, a tombstone, an event. Callers hold membership; false if this
-- act ends it already. `mark` is kept of an end that somebody or a limit decided: `by`, or `by limit`. Of a cut-off it is whose that was.
local function finish(where, sid, tenant, user, at, reason, not_after, retention, mark)
  if ending[sid] then return false end
  ending[sid] = true
  if reason == 'tenant_revoked' then mark = redis.call('HGET', where.cutoff, tenant .. ' by') end
  ends[#ends + 1] = {where = where, sid = sid, tenant = tenant, user = user, at = at, reason = reason,
                     not_after = not_after, retention = retention, mark = mark}
  return true
end

-- Most acts end nobody: what only this one needs is made in here.
local function carry_out()
  if #ends == 0 then return end
  local CODE = {expired = 0, idle_timeout = 1, signed_out = 2, revoked = 3, admin = 4, evicted = 5,
                refresh_token_reused = 6, user_revoked = 7, tenant_revoked = 8}
  local where, retention = ends[1].where, ends[1].retention

  local function ends_by(name) -- the groups that share a key, in the order in which they were noted
    local groups = {}
    for _, e in ipairs(ends) do
      local key = e.where[name]
      if not groups[key] then
        groups[key] = {}
        groups[#groups + 1] = groups[key]
      end
      table.insert(groups[key], e)
    end
    return groups
  end

  -- read
  local users, tenants = ends_by('user'), ends_by('tenant')
  local waiting = waiting_in(where.counts)
  for verb, key in pairs({ZCARD = where.due, XLEN = where.events, HLEN = where.endings}) do redis.call(verb, key) end
  for _, group in ipairs(users) do
    group.crowded = redis.call('ZCARD', group[1].where.ended) + #group > TOMBSTONES_PER_USER
  end
  for _, group in ipairs(tenants) do
    local sids = {}
    for i, e in ipairs(group) do sids[i] = e.sid end
    local places = redis.call('ZMSCORE', group[1].where.tenant, unpack(sids))
    for i, e in ipairs(group) do e.place = math.abs(tonumber(places[i] or created_ms(e.sid) * KINDS)) end
  end

  -- write
  for _, group in ipairs(users) do
    local ended, sids, tombs = group[1].where.ended, {}, {}
    for i, e in ipairs(group) do
      sids[i], tombs[2 * i - 1], tombs[2 * i] = e.sid, e.at * 16 + CODE[e.reason], e.sid
    end
    redis.call('ZREM', group[1].where.user, unpack(sids))
    redis.call('ZADD', ended, unpack(tombs))
    if group.crowded then redis.call('ZREMRANGEBYRANK', ended, 0, -TOMBSTONES_PER_USER - 1) end
    redis.call('PEXPIRE', ended, retention + WEEK)
  end
  for _, group in ipairs(tenants) do
    local places = {}
    for i, e in ipairs(group) do places[2 * i - 1], places[2 * i] = whole(-e.place), e.sid end
    redis.call('ZADD', group[1].where.tenant, unpack(places))
  end
  local burials, marks, tally = {}, {}, {}
  for _, e in ipairs(ends) do
    burials[#burials + 1], burials[#burials + 2] = e.at + retention, e.sid
    if e.mark and e.mark ~= '' then marks[#marks + 1], marks[#marks + 2] = e.sid, e.mark end
    local name = counted_as(waiting, e.tenant, e.at, e.reason, e.place % KINDS)
    if name then tally[name] = (tally[name] or 0) + 1 end
  end
  redis.call('ZADD', where.due, unpack(burials))
  if #marks > 0 then redis.call('HSET', where.endings, unpack(marks)) end

  -- announce
  for _, e in ipairs(ends) do
    local event = e.reason == 'expired' and 'session.expired' or 'session.revoked'
    announce(e.where, string.sub(e.sid, 15, 16), e.tenant, retention,
      {'t', event, 'n', e.tenant, 'u', e.user, 's', e.sid, 'r', e.reason, 'at', e.at, 'na', e.not_after},
      '"type":"' .. event .. '","tenant_id":"' .. e.tenant .. '","user_id":' .. cjson.encode(e.user) ..
      ',"session_id":"' .. e.sid .. '","reason":"' .. e.reason .. '","occurred_at":"' .. rfc3339(e.at) ..
      '","not_after":' .. e.not_after .. '}')
  end

  -- count: a field that holds no number costs that count and nothing else
  for name, number in pairs(tally) do redis.pcall('HINCRBY', where.counts, name, number) end
  ends = {}
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
