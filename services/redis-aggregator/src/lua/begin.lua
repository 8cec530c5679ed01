-- Begins to make the state of one partition anew: whatever it holds goes, and its position becomes one that no lane takes.
--
-- KEYS[1] = <prefix>{p}:pos. ARGV = the position found ('' where there is none, '*' where it is none), the position to write, then
-- other fields and values of the key. Answers 1 when that is done, now or before; 0 where the position is another one by now.

local pos_key, found, position = KEYS[1], ARGV[1], ARGV[2]
local prefix = string.sub(pos_key, 1, -4)
local kind = redis.call('TYPE', pos_key)['ok']
local at, windows = '*', ''
if kind == 'none' then
  at = ''
elseif kind == 'hash' then
  local stored = redis.call('HMGET', pos_key, 'at', 'windows')
  at, windows = stored[1] or '*', stored[2] or ''
end
if at == position then return 1 end
if at ~= found then return 0 end

-- a list of ours that holds another type is in the way, and names nothing
local function members(key)
  local list = redis.pcall('ZRANGE', key, 0, -1)
  return list.err and {} or list
end
local function drop(key) redis.call('UNLINK', prefix .. key) end
for _, bucket in ipairs(members(prefix .. 'bs')) do drop('b:' .. bucket) end
for _, minute in ipairs(members(prefix .. 'ms')) do drop('m:' .. minute) end
for span, kinds in string.gmatch(windows, '(%d+)=([%w_,]*)') do
  drop('w:' .. span)
  for score in string.gmatch(kinds, '[%w_]+') do drop('w:' .. span .. ':' .. score) end
end
for _, key in ipairs({ 't', 'bs', 'ms', 'pending', 'pos' }) do drop(key) end
redis.call('HSET', pos_key, 'at', position, unpack(ARGV, 3))
return 1
