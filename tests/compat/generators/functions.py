"""Libraries of functions: loaded, replaced, listed, dumped, restored and flushed, right and broken in every way; their
functions called with and without _RO, flags and keys. What a library keeps between calls is the same on both servers."""

from generator import Family
from generators.scripts import call_source, value

FAMILY = Family("functions", weight=6)

LIBRARIES = ["L1", "L2", "L3", "mylib", "MYLIB", "_x9"]
# Of two names that differ in letter case alone, in one library, redis-server 7.0.15 frees one twice.
FUNCTIONS = ["f", "g", "h", "run_it", "_", "f9"]
CALLED = [*FUNCTIONS, *FUNCTIONS, "F", "Run_It", "nosuch", ""]
CLASH = "mask:(Function|Library) [^']* already exists"   # the first of several is that of a hash table
FLAGS = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys", "nosuch", "", "NO-WRITES"]
HEADS = ["", "#!", "#!lua", "#!lua ", "#!LUA name=L1", "#!js name=L1", "#!lua name=", "#!lua name=a-b", "#!lua name=L1 name=L2",
         "#!lua NAME=L1", "#!lua bad=1", "#!lua 'name=L1'", "#!lua \"name=L1", "#!lua name=L1 engine=x", "name=L1", "#!lua\tname=L1"]
REGISTRATIONS = [
    "redis.register_function()", "redis.register_function('f')", "redis.register_function(1, function() end)",
    "redis.register_function('f', 1)", "redis.register_function('f', function() end, 1)", "redis.register_function('a b', function() end)",
    "redis.register_function('', function() end)", "redis.register_function{}", "redis.register_function{'f', function() end}",
    "redis.register_function{function_name='f'}", "redis.register_function{callback=function() end}",
    "redis.register_function{function_name='f', callback=1}", "redis.register_function{function_name={}, callback=function() end}",
    "redis.register_function{function_name='f', callback=function() end, flags=1}",
    "redis.register_function{function_name='f', callback=function() end, flags={1}}",
    "redis.register_function{function_name='f', callback=function() end, nosuch=1}",
    "redis.register_function{function_name='f', callback=function() end, description={}}",
    "redis.register_function{function_name=5, callback=function() return 5 end, description=7}",
    "local f = function() return 1 end redis.register_function('f', f) redis.register_function('f', f)",
    "redis.call('ping')", "redis.nosuch()", "x = 1", "error('no')", "error({err='no'})", "error()", "return 1", "(", "local t = {} t.x.y = 1",
    "redis.log(redis.LOG_DEBUG, 'x')", "math.randomseed(1)", "loadstring('x')()", "redis.set_repl(1)", "redis.setresp(3)",
    "print(1)", "_G.x = 1", "redis.x = 1", "string.rep = nil", "setmetatable(_G, {})", "redis.register_function('c', coroutine.wrap(function() end))"]
BODIES = ["return {#keys, #args}", "return keys", "return args[1]", "return keys[1] and redis.call('get', keys[1])",
          "return keys[1] and redis.call('incr', keys[1])", "calls = 1", "return KEYS", "error('bad')", "error({err='MY bad'})",
          "return redis.error_reply('MY x')", "return redis.pcall('nosuch')", "redis.setresp(3) return {double=1.5}",
          "return redis.register_function('z', function() end)", "return redis.call('function', 'list')", "return redis.call('fcall', 'f', 0)",
          "return redis.status_reply(tostring(args[1]))", "return tostring(redis.breakpoint)", "redis.set_repl(0) return 1",
          "count = (count or 0) + 1 return count", "return redis.acl_check_cmd('get', 'k1')", "keys.x = 1 return {keys.x}"]


def crc64(data):
    """Of Redis's payloads: Jones, reflected."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def payload(sources, version=10):
    """As FUNCTION DUMP makes it, uncompressed."""
    body = b"".join(b"\xf5" + length(len(source)) + source for source in sources) + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def length(count):
    return bytes([count]) if count < 64 else bytes([0x40 | count >> 8, count & 255])


def registration(chance, name):
    body = chance.random.choice(BODIES)
    if chance.flip(0.3):
        body = "return " + value(chance)
    elif chance.flip(0.3):
        body = call_source(chance)
    callback = f"function(keys, args) {body} end"
    if chance.flip(0.4):
        return f"redis.register_function('{name}', {callback})"
    fields = [f"function_name='{name}'", f"callback={callback}"]
    if chance.flip(0.3):
        fields.append(f"description='{chance.random.choice(['', 'does', 'two words'])}'")
    if chance.flip(0.7):
        flags = [flag for flag in FLAGS[:3] if chance.flip(0.4)]
        if chance.flip(0.1):
            flags.append(chance.random.choice(FLAGS))
        fields.append("flags={" + ",".join(f"'{flag}'" for flag in flags) + "}")
    return "redis.register_function{" + ", ".join(fields) + "}"


def library(chance):
    """The source of one, mostly right."""
    at = chance.count(0, len(LIBRARIES) - 1)
    head = f"#!lua name={LIBRARIES[at]}"
    if chance.flip(0.08):
        head = chance.random.choice(HEADS)
    names = chance.random.sample(FUNCTIONS, chance.count(1, 3))
    if chance.flip(0.8):  # each its own ones, so that there may be several
        names = [FUNCTIONS[at]]
    lines = ["local count"] + [registration(chance, name) for name in names]
    if chance.flip(0.12):
        lines.insert(chance.count(0, len(lines)), chance.random.choice(REGISTRATIONS))
    if chance.flip(0.03):
        lines = []
    end = "" if chance.flip(0.02) else "\n"
    return (head + end + "\n".join(lines)).encode("latin1")


@FAMILY.row(weight=5, mode=CLASH)
def load(chance):
    replace = chance.random.choice([[], [b"REPLACE"], [b"replace"], [b"REPLACE"], [b"nosuch"] if chance.flip(0.1) else []])
    return [b"FUNCTION", b"LOAD", *replace, library(chance)]


@FAMILY.row(weight=10)
def call(chance):
    command = b"FCALL_RO" if chance.flip(0.3) else b"FCALL"
    keys = [chance.key() for _ in range(chance.count(0, 2))]
    count = chance.number() if chance.flip(0.05) else b"%d" % len(keys)
    return [command, chance.random.choice(CALLED).encode(), count, *keys, *[chance.value() for _ in range(chance.count(0, 2))]]


@FAMILY.row(weight=2, mode="unordered")
def lists(chance):
    words = chance.words(b"WITHCODE")
    if chance.flip():
        words += [b"LIBRARYNAME", chance.random.choice([b"*", b"L?", b"l1", b"my*", b"nosuch", b""])]
    if chance.flip(0.1):
        words.append(chance.random.choice([b"LIBRARYNAME", b"WITHCODE", b"x"]))
    return [b"FUNCTION", b"LIST", *words]


@FAMILY.row(weight=2, mode=CLASH)
def restore(chance):
    data = payload([library(chance) for _ in range(chance.count(0, 2))], chance.random.choice([10, 10, 10, 9, 13]))
    if chance.flip(0.2):
        at = chance.count(0, len(data) - 1)
        data = chance.random.choice([data[:at], data[:at] + bytes([data[at] ^ 1 << chance.count(0, 7)]) + data[at + 1:]])
    policy = chance.random.choice([[], [b"APPEND"], [b"REPLACE"], [b"FLUSH"], [b"replace"], [b"x"], [b"FLUSH", b"x"]])
    return [b"FUNCTION", b"RESTORE", data, *policy]


@FAMILY.row(weight=2)
def manage(chance):
    return chance.random.choice([[b"FUNCTION", b"DELETE", chance.random.choice(LIBRARIES).encode()], [b"FUNCTION", b"STATS"],
                                 [b"FUNCTION", b"STATS"], [b"FUNCTION", b"KILL"], [b"FUNCTION", b"NOSUCH"],
                                 [b"FUNCTION", b"STATS"] if chance.flip(0.6) else [b"FUNCTION", b"FLUSH", *chance.random.choice([[], [b"SYNC"], [b"async"], [b"x"]])]])


@FAMILY.row(mode="type")
def dump(_):
    """The order of several libraries is that of a hash table."""
    return [b"FUNCTION", b"DUMP"]
