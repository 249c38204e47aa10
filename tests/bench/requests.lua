-- For wrk: sends the requests of a file (each whole, ended by a NUL byte) one after the other, then from the first again,
-- and prints what came of it as one line of JSON. Arguments: the file, and the share of it (0 to 1) to begin after.
local threads = {}

function setup(thread) threads[#threads + 1] = thread end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  stored, sent = {}, 0
  for one in file:read("*a"):gmatch("([^%z]+)") do stored[#stored + 1] = one end
  file:close()
  begin = math.floor(#stored * tonumber(args[2]))
end

function request()
  sent = sent + 1
  return stored[(begin + sent - 1) % #stored + 1]
end

function done(summary, latency)
  local sent = 0
  for _, thread in ipairs(threads) do sent = sent + thread:get("sent") end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"answers": %d, "seconds": %f, "sent": %d, "refused": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6, sent, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
