-- flags: allow-oom
-- Keep the values that every process of a deployment must share. The first process to start sets them.
-- KEYS deployment
-- ARGV for each: field value replace (1: also over another value)
for i = 1, #ARGV, 3 do
  if ARGV[i + 2] == '1' or redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
