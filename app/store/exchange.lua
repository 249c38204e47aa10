-- flags: allow-oom
-- Change a string if it is what the caller thinks; empty stands for none, before and after.
-- KEYS string
-- ARGV expected next ttl
-- Returns 1 if it was changed
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
