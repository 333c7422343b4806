-- One counter of a plugin, changed if it may be.
-- KEYS: the counter. ARGV: the question's id, amount, limit, life in ms.
-- Answer: the id, 1 if it was changed or may stand as it is, the count.
local n = tonumber(redis.call('GET', KEYS[1]) or 0)
local amount = tonumber(ARGV[2])
local to = math.max(0, n + amount)
if amount >= 0 and to > tonumber(ARGV[3]) then
	return {ARGV[1], 0, n}
end
if to == n then
	return {ARGV[1], 1, n}
end
redis.call('INCRBY', KEYS[1], string.format('%.0f', to - n))
if redis.call('PTTL', KEYS[1]) < 0 then
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {ARGV[1], 1, to}
