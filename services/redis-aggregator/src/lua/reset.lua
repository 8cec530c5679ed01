-- Forgets the sums of one partition because a newer snapshot replaces the one they were made of.
--
-- KEYS[1] = <prefix>{p}:pos. ARGV = expected position, new history. The position stays; everything derived from
-- the replaced records goes. Answers as apply.lua does.

local pos_key = KEYS[1]
local prefix = string.sub(pos_key, 1, -4)
local stored = redis.call('HMGET', pos_key, 'at', 'hi', 'seq', 'windows')
if not stored[1] then return { 'WIPED', '', 0, 0 } end
if stored[1] ~= ARGV[1] then return { 'GAP', stored[1], tonumber(stored[2]), tonumber(stored[3]) } end
local buckets = redis.call('ZRANGE', prefix .. 'bs', 0, -1)
local minutes = redis.call('ZRANGE', prefix .. 'ms', 0, -1)

local seq = tonumber(stored[3]) + 1
redis.call('HSET', pos_key, 'history', ARGV[2], 'seq', seq)
redis.call('HDEL', pos_key, 'windows')
for _, bucket in ipairs(buckets) do redis.call('UNLINK', prefix .. 'b:' .. bucket) end
for _, minute in ipairs(minutes) do redis.call('UNLINK', prefix .. 'm:' .. minute) end
for span, kinds in string.gmatch(stored[4] or '', '(%d+)=([%w_,]*)') do
  redis.call('UNLINK', prefix .. 'w:' .. span)
  for kind in string.gmatch(kinds, '[%w_]+') do redis.call('UNLINK', prefix .. 'w:' .. span .. ':' .. kind) end
end
redis.call('UNLINK', prefix .. 't', prefix .. 'bs', prefix .. 'ms', prefix .. 'pending')
return { 'APPLIED', stored[1], tonumber(stored[2]), seq }
