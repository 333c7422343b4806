-- Takes every charge or none. KEYS: the reservation's record, then one counter for each charge.
-- ARGV: window length (ms), life of records (ms), id to give back, then limit and amount of each charge.
-- Gives {id, 1 taken | 0 does not fit | 2 settled before, window, ms until it ends, left of each charge}.
local size = tonumber(ARGV[1])
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now = math.floor(ms / size)
local out = {ARGV[3], 1, now, (now + 1) * size - ms}
if redis.call('EXISTS', KEYS[1]) == 1 then
  out[2] = 2
  return out
end
local fresh = {}
for i = 2, #KEYS do
  local limit, amount = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local counter = redis.call('HMGET', KEYS[i], 'w', 'u')
  local window, used = tonumber(counter[1]), tonumber(counter[2])
  -- A clock set back over the edge of a window does not empty the counter a second time.
  fresh[i] = not (window == now or window == now + 1)
  if fresh[i] then used = 0 end
  local left = math.max(0, limit - used)
  if left == 0 or amount > left then out[2] = 0 end
  out[3 + i] = left
end
if out[2] == 0 then return out end
for i = 2, #KEYS do
  local amount = ARGV[2 * i + 1]
  if amount ~= '0' then
    if fresh[i] then
      redis.call('HSET', KEYS[i], 'w', now, 'u', amount)
    else
      redis.call('HINCRBY', KEYS[i], 'u', amount)
    end
    redis.call('PEXPIRE', KEYS[i], 2 * size)
    out[3 + i] = out[3 + i] - tonumber(amount)
  end
end
redis.call('SET', KEYS[1], now, 'PX', ARGV[2])
return out
