-- flags: allow-oom
-- Count a tenant's living sessions of one shard anew, by kind, and take what was counted of them until this moment.
-- KEYS tenant counts
-- ARGV tenant most
-- Returns {{kind, number …}, {field, number …}}: the second is contained in the first. With more than `most` the first
-- is empty: too many for one act
local living, members = {}, {}
if redis.call('ZCARD', KEYS[1]) <= tonumber(ARGV[2]) then
  members = redis.call('ZRANGE', KEYS[1], 1, '+inf', 'BYSCORE', 'WITHSCORES')
end
for i = 2, #members, 2 do
  local kind = members[i] % KINDS
  living[kind] = (living[kind] or 0) + 1
end
local kinds, taken = {}, {}
for kind, number in pairs(living) do
  kinds[#kinds + 1], kinds[#kinds + 2] = kind, number
end
local counts = redis.pcall('HGETALL', KEYS[2])
if counts.err then counts = {} end
for i = 1, #counts, 2 do
  if string.sub(counts[i], 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
    taken[#taken + 1], taken[#taken + 2] = counts[i], counts[i + 1]
    redis.call('HDEL', KEYS[2], counts[i])
  end
end
return {kinds, taken}
