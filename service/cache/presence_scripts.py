"""The Lua scripts of `presence`: each changes one user's hash and its place in `due` at once."""

from __future__ import annotations

# KEYS: the user's hash, `due`. ARGV: user, now, lease, retry, then what the script says.
_PRELUDE = """
local key, due = KEYS[1], KEYS[2]
local user, now, lease, retry = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function text(number) return string.format('%.0f', number) end

-- Of a session's field: the one that says that it was not told yet who else is here.
local function newcomer(name) return 'n:' .. string.sub(name, 3) end

local function look()
  local seen = {real = 'offline', sessions = 0}
  local fields = redis.call('HGETALL', key)
  local left = nil
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if string.sub(name, 1, 2) == 's:' then
      local expiry, state = string.match(value, '^(%d+) (%a+)$')
      expiry = tonumber(expiry)
      if expiry <= now then
        redis.call('HDEL', key, name, newcomer(name))
        left = math.max(left or 0, expiry - lease)
      else
        seen.sessions = seen.sessions + 1
        if seen.first == nil or expiry < seen.first then seen.first, seen.first_name = expiry, name end
        if state == 'online' or seen.real == 'offline' then seen.real = state end
      end
    else
      seen[name] = value
    end
  end
  if left ~= nil and left > tonumber(seen.left or 0) then
    seen.left = text(left)
    redis.call('HSET', key, 'left', seen.left)
  end
  return seen
end

local function visible(seen) return seen.hidden == '0' and seen.real or 'offline' end

-- Gives the user its next moment, and the hash its time to live.
local function schedule(seen)
  local settled = visible(seen) == (seen.told or 'offline')
  -- Who is here while nobody knows whether to hide it is not settled either.
  if seen.real ~= 'offline' and seen.hidden == nil then settled = false end
  local moment = seen.first
  if not settled and (moment == nil or moment > now + retry) then moment = now + retry end
  if moment == nil then redis.call('ZREM', due, user) else redis.call('ZADD', due, text(moment), user) end
  redis.call('PEXPIRE', key, text(3 * lease + retry))
  return settled
end
"""

REPORT = (
    _PRELUDE
    + """
local name, state, limit = 's:' .. ARGV[5], ARGV[6], tonumber(ARGV[7])
local is_newcomer = 0
if state == 'offline' then
  redis.call('HDEL', key, newcomer(name))
  if redis.call('HDEL', key, name) == 1 then redis.call('HSET', key, 'left', text(now)) end
else
  local seen = look()
  if redis.call('HEXISTS', key, name) == 0 then
    if seen.sessions >= limit then redis.call('HDEL', key, seen.first_name, newcomer(seen.first_name)) end
    redis.call('HSET', key, newcomer(name), '1')
  end
  redis.call('HSET', key, name, text(now + lease) .. ' ' .. state)
  is_newcomer = redis.call('HEXISTS', key, newcomer(name))
end
local seen = look()
local settled = schedule(seen)
return {seen.real, is_newcomer, settled and 1 or 0}
"""
)

INSPECT = (
    _PRELUDE
    + """
local seen = look()
-- What others were told is forgotten, but the caller knows.
if seen.told == nil and ARGV[5] == '1' and seen.hidden ~= nil and visible(seen) == 'offline' then
  seen.told = 'online'
  redis.call('HSET', key, 'told', 'online')
end
local settled = schedule(seen)
local untold = ''
if seen.hidden ~= nil and not settled then untold = visible(seen) end
return {seen.real, seen.hidden or '', untold, seen.left or ''}
"""
)

HIDE = (
    _PRELUDE
    + """
redis.call('HSET', key, 'hidden', ARGV[5])
schedule(look())
"""
)

WELCOME = (
    _PRELUDE
    + """
for i = 5, #ARGV do redis.call('HDEL', key, newcomer('s:' .. ARGV[i])) end
"""
)

SETTLE = (
    _PRELUDE
    + """
redis.call('HSET', key, 'told', ARGV[5])
schedule(look())
"""
)

# KEYS: `due`. ARGV: now, when the users come up again unless they are settled, how many at the most.
TAKE_DUE = """
local users = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, user in ipairs(users) do redis.call('ZADD', KEYS[1], ARGV[2], user) end
return users
"""
