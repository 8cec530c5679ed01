-- Applies one batch of one partition, or moves its window when no event came. One call is one atomic step.
--
-- KEYS[1] = <prefix>{p}:pos; every other key of state starts with the same prefix and shares its hash slot.
-- ARGV    = expected position, new position, its enriched offset, watermark bucket, history, newest commit,
--           watermark bucket when the partition was opened, batch.
-- CFG     = constants, written above this text from the configuration.
--
-- Everything is read first: a state key of the wrong type fails there, before the first write. After that come only
-- writes that cannot fail: on state by types already seen, on reader keys through emit().

local pos_key = KEYS[1]
local prefix = string.sub(pos_key, 1, -4)
local expected, at, enriched = ARGV[1], ARGV[2], tonumber(ARGV[3])
local opened = tonumber(ARGV[7])
local contents, batch_buckets, batch_minutes = cmsgpack.unpack(ARGV[8])
local totals_key, index_key, minute_index_key = prefix .. 't', prefix .. 'bs', prefix .. 'ms'
local CHUNK = 500

local function zero() return { 0, 0, 0, 0, 0, 0, 0 } end
local function add(into, from, sign)
  for i = 1, 7 do into[i] = into[i] + sign * from[i] end
end
local function is_zero(v)
  for i = 1, 7 do if v[i] ~= 0 then return false end end
  return true
end

-- a / b rounded half up, for b > 0
local function half_up(a, b)
  local n, d = 2 * a + b, 2 * b
  local q = math.floor(n / d)
  local r = n - q * d
  if r < 0 then q = q - 1 elseif r >= d then q = q + 1 end
  return q
end

-- HMGET in pieces: field -> value or false
local function hmget(key, fields)
  local found = {}
  for from = 1, #fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #fields)
    local values = redis.call('HMGET', key, unpack(fields, from, to))
    for i = from, to do found[fields[i]] = values[i - from + 1] end
  end
  return found
end

-- Writes collected while reading, done after the last read
local writes = {}
local function later(...) writes[#writes + 1] = { ... } end
local function later_many(command, key, list, step)
  for from = 1, #list, step do
    later(command, key, unpack(list, from, math.min(from + step - 1, #list)))
  end
end

-- Reader keys, written last. In cluster mode they live in other slots, so the caller sends the commands.
-- A key of another type is in the way of ours and replaced.
local emitted = {}
local function emit(command, key, ...)
  if CFG.cluster then
    emitted[#emitted + 1] = { command, key, ... }
    return
  end
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    redis.pcall('DEL', key)
    reply = redis.pcall(command, key, ...)
  end
  return reply
end

-- A reader key's pattern is { before, after, seconds or false }
local function name(pattern, id) return pattern[1] .. id .. pattern[2] end
local function emit_set(pattern, id, value)
  if pattern[3] then
    emit('SET', name(pattern, id), value, 'EX', pattern[3])
  else
    emit('SET', name(pattern, id), value)
  end
end
local function emit_expire(pattern, key)
  if pattern[3] then emit('EXPIRE', key, pattern[3]) end
end

-- 1. Compare ------------------------------------------------------------------------------------------------
local stored = redis.call('HMGET', pos_key, 'at', 'enriched', 'hi', 'seq', 'windows')
if not stored[1] then return { 'WIPED', '', 0, 0 } end
local old_hi, seq = tonumber(stored[3]), tonumber(stored[4])
if stored[1] ~= expected then
  local verdict = tonumber(stored[2]) >= enriched and 'ALREADY' or 'GAP'
  return { verdict, stored[1], old_hi, seq }
end
local hi = math.max(old_hi, tonumber(ARGV[4]))
local rebuild = stored[5] ~= CFG.signature
if at == expected and hi == old_hi and not rebuild then
  return { 'APPLIED', at, hi, seq }
end

-- 2. Totals -------------------------------------------------------------------------------------------------
-- Of a content: seven sums, time and id of the event shown as the last, length, type, title, and when the TTLs of
-- its reader keys were renewed.
local LAST_AT, LENGTH, LAST_ID, TYPE, TITLE, RENEWED = 8, 9, 10, 11, 12, 13
local known_length, totals, shown, cleared = {}, {}, {}, {}

local function apply_last(i, t, changes)
  for _, change in ipairs(changes) do
    local ts, event_id = change[1], change[2]
    if ts == false then
      if t[LAST_ID] == event_id then t[LAST_AT], t[LAST_ID], shown[i], cleared[i] = 0, '', nil, true end
    elseif t[LAST_ID] == '' or ts >= t[LAST_AT] then
      t[LAST_AT], t[LAST_ID], shown[i], cleared[i] = ts, event_id, change, nil
    end
  end
end

local function apply_totals()
  local ids, fields = {}, {}
  for i, content in ipairs(contents) do ids[i] = content[1] end
  local found = hmget(totals_key, ids)
  for i, content in ipairs(contents) do
    local id, sums, info = content[1], content[2], content[3]
    local raw = found[id]
    local t = raw and { cmsgpack.unpack(raw) } or { 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '', '', false }
    add(t, sums, 1)
    if info then t[LENGTH], t[TYPE], t[TITLE] = info[1], info[2], info[3] end
    known_length[id] = t[LENGTH]
    apply_last(i, t, content[4])
    local due = not t[RENEWED] or t[RENEWED] <= opened or hi - t[RENEWED] >= CFG.renew_after
    if due then t[RENEWED] = hi end
    totals[i] = t
    t.due = due
    fields[#fields + 1] = id
    fields[#fields + 1] = cmsgpack.pack(unpack(t, 1, RENEWED))
  end
  later_many('HSET', totals_key, fields, 2 * CHUNK)
end

-- 3. Buckets and windows ------------------------------------------------------------------------------------
local live = redis.call('ZRANGEBYSCORE', index_key, '-inf', hi)
local oldest = hi - CFG.longest

local loaded = {}
local function bucket(b)
  if not loaded[b] then
    local flat, map = redis.call('HGETALL', prefix .. 'b:' .. b), {}
    for i = 1, #flat, 2 do map[flat[i]] = { cmsgpack.unpack(flat[i + 1]) } end
    loaded[b] = map
  end
  return loaded[b]
end

local function accumulate(acc, id, v, sign)
  local sum = acc[id]
  if not sum then
    sum = zero()
    acc[id] = sum
  end
  add(sum, v, sign)
end

-- What enters and leaves one window in this step, per content
local function window_changes(span)
  local acc, lo, old_lo = {}, hi - span, old_hi - span
  for _, text in ipairs(live) do
    local b, sign = tonumber(text), 0
    if rebuild then
      if b >= lo then sign = 1 end
    elseif b > old_hi then
      if b >= lo then sign = 1 end
    elseif b >= old_lo and b < lo then
      sign = -1
    end
    if sign ~= 0 then
      for id, v in pairs(bucket(text)) do accumulate(acc, id, v, sign) end
    end
  end
  for _, group in ipairs(batch_buckets) do
    if group[1] >= lo and group[1] <= hi then
      local entries = group[2]
      for i = 1, #entries, 2 do accumulate(acc, entries[i], entries[i + 1], 1) end
    end
  end
  return acc
end

-- Order inside a partition; integers: events, milliseconds, percent * 100, weighted * 1000000
local score = {
  events = function(v) return v[1] end,
  seconds = function(v) return v[2] end,
  mean_percent = function(v, length)
    if v[3] <= 0 or length <= 0 then return 0 end
    return half_up(v[2] * 10, length * v[3])
  end,
  weighted = function(v, length)
    local w, sum, known = CFG.weights, 0, 0
    for i = 1, 4 do
      sum, known = sum + w[i] * v[i + 3], known + v[i + 3]
    end
    sum = sum + w[5] * (v[1] - known)
    if v[3] <= 0 or length <= 0 then return sum * 1000 end
    return sum * 1000 + half_up(sum * v[2], length * v[3])
  end,
}

local function find_lengths(acc, old)
  local missing = {}
  for id in pairs(acc) do
    if not known_length[id] and not old[id] then missing[#missing + 1] = id end
  end
  for id, raw in pairs(hmget(totals_key, missing)) do
    known_length[id] = raw and select(LENGTH, cmsgpack.unpack(raw)) or 0
  end
end

local function apply_window(window)
  local key = prefix .. 'w:' .. window.span
  local acc, ids = window_changes(window.span), {}
  for id in pairs(acc) do ids[#ids + 1] = id end
  if not rebuild then
    for _, kind in ipairs(window.scores) do redis.call('ZCARD', key .. ':' .. kind) end
  end
  local old = rebuild and {} or hmget(key, ids)
  find_lengths(acc, old)
  local set, gone, ranked, unranked = {}, {}, {}, {}
  for _, kind in ipairs(window.scores) do ranked[kind], unranked[kind] = {}, {} end
  for id, v in pairs(acc) do
    local before = old[id] and { cmsgpack.unpack(old[id]) }
    if before then add(v, before, 1) end
    v[8] = known_length[id] or before[8]
    if is_zero(v) then
      gone[#gone + 1] = id
    else
      set[#set + 1] = id
      set[#set + 1] = cmsgpack.pack(unpack(v))
    end
    for _, kind in ipairs(window.scores) do
      local points = score[kind](v, v[8])
      local list = points > 0 and ranked[kind] or unranked[kind]
      if points > 0 then list[#list + 1] = points end
      list[#list + 1] = id
    end
  end
  later_many('HSET', key, set, 2 * CHUNK)
  later_many('HDEL', key, gone, CHUNK)
  for _, kind in ipairs(window.scores) do
    later_many('ZADD', key .. ':' .. kind, ranked[kind], 2 * CHUNK)
    later_many('ZREM', key .. ':' .. kind, unranked[kind], CHUNK)
  end
end

-- The batch's own sums go into their buckets, unless these have left every window
local function apply_bucket(group)
  local b, entries = group[1], group[2]
  if b < oldest then return end
  local key, ids = prefix .. 'b:' .. string.format('%.0f', b), {}
  for i = 1, #entries, 2 do ids[#ids + 1] = entries[i] end
  local found, set, gone = hmget(key, ids), {}, {}
  for i = 1, #entries, 2 do
    local id, v = entries[i], entries[i + 1]
    local raw = found[id]
    if raw then add(v, { cmsgpack.unpack(raw) }, 1) end
    if is_zero(v) then
      gone[#gone + 1] = id
    else
      set[#set + 1] = id
      set[#set + 1] = cmsgpack.pack(unpack(v))
    end
  end
  later('ZADD', index_key, b, string.format('%.0f', b))
  later_many('HSET', key, set, 2 * CHUNK)
  later_many('HDEL', key, gone, CHUNK)
end

local function drop_expired_buckets()
  for _, text in ipairs(live) do
    if tonumber(text) < oldest then
      later('UNLINK', prefix .. 'b:' .. text)
      later('ZREM', index_key, text)
    end
  end
end

-- 4. Minutes ------------------------------------------------------------------------------------------------
local oldest_minute = math.floor(hi * CFG.bucket_us / 60000000) - CFG.minutes_kept

local minute_ranks = {}

local function apply_minute(group)
  local minute, text, entries = group[1], group[2], group[3]
  if minute < oldest_minute then return end
  local key, ids = prefix .. 'm:' .. text, {}
  for i = 1, #entries, 2 do ids[#ids + 1] = entries[i] end
  local found, set = hmget(key, ids), {}
  local ranked, unranked = {}, {}
  for i = 1, #entries, 2 do
    local id = entries[i]
    local events = entries[i + 1] + (tonumber(found[id] or 0))
    set[#set + 1] = id
    set[#set + 1] = events
    if events > 0 then
      ranked[#ranked + 1] = events
      ranked[#ranked + 1] = id
    else
      unranked[#unranked + 1] = id
    end
  end
  later('ZADD', minute_index_key, minute, text)
  later_many('HSET', key, set, 2 * CHUNK)
  minute_ranks[#minute_ranks + 1] = { text, ranked, unranked }
end

local function emit_minute(text, ranked, unranked)
  local reader = name(CFG.minute, text)
  for from = 1, #ranked, 2 * CHUNK do
    emit('ZADD', reader, unpack(ranked, from, math.min(from + 2 * CHUNK - 1, #ranked)))
  end
  for from = 1, #unranked, CHUNK do
    emit('ZREM', reader, unpack(unranked, from, math.min(from + CHUNK - 1, #unranked)))
  end
  emit_expire(CFG.minute, reader)
end

local function drop_expired_minutes()
  local gone = redis.call('ZRANGEBYSCORE', minute_index_key, '-inf', oldest_minute - 1)
  for _, text in ipairs(gone) do later('UNLINK', prefix .. 'm:' .. text) end
  if #gone > 0 then later('ZREMRANGEBYSCORE', minute_index_key, '-inf', oldest_minute - 1) end
end

-- Another configuration built the windows: drop its keys, whatever they are, and build ours from the buckets
local function drop_foreign_windows()
  for span, kinds in string.gmatch(stored[5] or '', '(%d+)=([%w_,]*)') do
    later('UNLINK', prefix .. 'w:' .. span)
    for kind in string.gmatch(kinds, '[%w_]+') do later('UNLINK', prefix .. 'w:' .. span .. ':' .. kind) end
  end
  for _, window in ipairs(CFG.windows) do
    later('UNLINK', prefix .. 'w:' .. window.span)
    for _, kind in ipairs(window.scores) do later('UNLINK', prefix .. 'w:' .. window.span .. ':' .. kind) end
  end
end

-- 5. What readers read, from the totals ---------------------------------------------------------------------
local function emit_last(i, id)
  local change = shown[i]
  if change then
    local json = change[3]
    -- a number stands for that entry of the content's recent events
    if type(json) == 'number' then json = contents[i][5][json][2] end
    emit_set(CFG.last, id, json)
  elseif cleared[i] then
    emit('DEL', name(CFG.last, id))
  end
end

local function emit_recent(id, recent, due)
  local key, last = name(CFG.recent, id), #recent
  for i = 1, last - 1 do emit('XADD', key, recent[i][1], 'event', recent[i][2]) end
  emit('XADD', key, 'MAXLEN', CFG.recent[4], recent[last][1], 'event', recent[last][2])
  if due then emit_expire(CFG.recent, key) end
end

local function emit_users(id, users, due)
  local key = name(CFG.users, id)
  emit('PFADD', key, unpack(users))
  if due then emit_expire(CFG.users, key) end
end

local function emit_stats(i, id, t)
  local key, percent, change = name(CFG.stats, id), 0, shown[i]
  if t[3] > 0 and t[LENGTH] > 0 then percent = half_up(t[2] * 10, t[LENGTH] * t[3]) end
  local fields = {
    'title', t[TITLE], 'type', t[TYPE], 'total_events', t[1], 'total_seconds', string.format('%.3f', t[2] / 1000),
    'play', t[4], 'pause', t[5], 'finish', t[6], 'click', t[7], 'other', t[1] - t[4] - t[5] - t[6] - t[7],
    'mean_percent', string.format('%.2f', percent / 100),
    'last_event_id', change and change[2], 'last_event_type', change and change[4],
    'last_event_ts', change and change[5],
  }
  emit('HSET', key, unpack(fields, 1, change and 26 or 20))
  if cleared[i] then emit('HDEL', key, 'last_event_id', 'last_event_type', 'last_event_ts') end
  if not t.due then return end
  if CFG.users and not CFG.cluster then
    local users = redis.pcall('PFCOUNT', name(CFG.users, id))
    if type(users) == 'number' then emit('HSET', key, 'unique_users', users) end
  end
  emit_expire(CFG.stats, key)
end

local function emit_content(i, content)
  local id, recent, users, t = content[1], content[5], content[6], totals[i]
  if CFG.last then emit_last(i, id) end
  if CFG.count then emit_set(CFG.count, id, math.max(t[1], 0)) end
  if CFG.users and #users > 0 then emit_users(id, users, t.due) end
  if CFG.stats then emit_stats(i, id, t) end
  if CFG.recent and #recent > 0 then emit_recent(id, recent, t.due) end
end

-- 6. Read, compute, then write ------------------------------------------------------------------------------
apply_totals()
if rebuild then drop_foreign_windows() end
for _, window in ipairs(CFG.windows) do apply_window(window) end
for _, group in ipairs(batch_buckets) do apply_bucket(group) end
drop_expired_buckets()
if CFG.minute then
  for _, group in ipairs(batch_minutes) do apply_minute(group) end
end
drop_expired_minutes()
if CFG.cluster then redis.call('STRLEN', prefix .. 'pending') end

seq = seq + 1
redis.call('HSET', pos_key, 'at', at, 'enriched', ARGV[3], 'hi', hi, 'seq', seq, 'windows', CFG.signature,
  'history', ARGV[5], 'commit', ARGV[6])
for _, command in ipairs(writes) do redis.call(unpack(command)) end
for i, content in ipairs(contents) do emit_content(i, content) end
for _, ranks in ipairs(minute_ranks) do emit_minute(unpack(ranks)) end
if CFG.cluster then
  redis.call('SET', prefix .. 'pending', cmsgpack.pack(emitted))
  return { 'APPLIED', at, hi, seq, emitted }
end
return { 'APPLIED', at, hi, seq }
