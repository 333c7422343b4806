-- Changes each counter by what was used beyond (or short of) its amount, once for each record.
-- KEYS as in take.lua. ARGV: window length (ms), life of records (ms), id to give back, the window the
-- caller knows (0: none), the most a counter holds, then the change of each charge.
-- Gives {id, 1 settled now | 0 settled before}.
local state = redis.call('GET', KEYS[1])
if state == 's' then return {ARGV[3], 0} end
local size, most = tonumber(ARGV[1]), tonumber(ARGV[5])
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now = math.floor(ms / size)
local mine = tonumber(state or ARGV[4])
if mine ~= 0 then
  for i = 2, #KEYS do
    local change = tonumber(ARGV[4 + i])
    local counter = redis.call('HMGET', KEYS[i], 'w', 'u')
    local window, used = tonumber(counter[1]), tonumber(counter[2])
    if not (window == now or window == now + 1) then window, used = now, 0 end
    -- What was reserved in a window that has passed is gone with it; only use beyond it counts on.
    if change ~= 0 and (window == mine or change > 0) then
      local sum = string.format('%.0f', math.min(most, math.max(0, used + change)))
      redis.call('HSET', KEYS[i], 'w', window, 'u', sum)
      redis.call('PEXPIRE', KEYS[i], 2 * size)
    end
  end
end
redis.call('SET', KEYS[1], 's', 'PX', ARGV[2])
return {ARGV[3], 1}
