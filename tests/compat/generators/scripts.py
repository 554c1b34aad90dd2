"""Scripts: values made by chance go through EVAL both ways, through the libraries and through redis.call; errors are
raised in every form. What a script leaves in its interpreter is the same on both servers."""

import hashlib

from generator import Family

FAMILY = Family("scripts", weight=12)

CACHED = [b"return 1", b"return KEYS[1]", b"return {ARGV[1],ARGV[2]}", b"return redis.call('dbsize')", b"return redis.call('get',KEYS[1])",
          b"return redis.call('set',KEYS[1],ARGV[1])", b"x x"]
NUMBERS = ["0", "1", "-1", "3.99", "-0.5", "1e15", "1e300", "-1e300", "2^31", "2^53", "2^63", "-2^63", "1/0", "-1/0", "0/0",
           "123456789012345678", "0.1", "-0"]
TEXTS = ["''", "'a'", "'a b'", r"'\0\1\255'", r"'line\r\nend'", "'\"q\\'/'", "'12'", "'-x'", r"'\226\130\172'",
         "string.rep('x',40)", "string.rep('y',300)"]
CODES = ["ERR plain", "MY code", "noword", "-MINUS x", "", "two\\r\\nlines"]
SMALL = ["true", "false", "nil", "cjson.null", "function() end", "KEYS", "ARGV"]
JSON = ["", "null", "true", "[1,2", "[1,2]", '{"a":1}', '{"a":{"b":[]}}', '{"a" 1}', "[1,]", '{"a":1,}', "tru", "0x1F", "1e5", "-",
        "-1", "01", "nan", "-inf", '"\\\\u00e9\\\\ud83d\\\\ude00"', '"\\\\ud83d"', '"\\\\x"', '"open', " [ ] ", "1 2", "+1", "[[[[]]]]",
        '"a\\\\/b"', "1.5e", "."]
FORMATS = ["i", "I", ">i2", "<I8", "i16", "bB", "hH", "lL", "T", "f", ">d", "s", "c0", "c3", "x", "!4bi", "!8bd", "!3i", "z", "i33",
           "bc0", " i ", "i0", "c2147483648", "<!2hxi"]
OPERATIONS = ["band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror"]
TAGS = ["ok", "err", "double", "big_number", "map", "set", "verbatim_string", "format", "string"]


def value(chance, depth=0):
    """The source of a Lua value without chance of its own."""
    kind = chance.count(0, 9 if depth < 4 else 5)
    if kind < 2:
        return chance.random.choice(NUMBERS)
    if kind < 4:
        return chance.random.choice(TEXTS)
    if kind < 6:
        return chance.random.choice(SMALL)
    if kind < 8:
        return "{" + ",".join(value(chance, depth + 1) for _ in range(chance.count(0, 4))) + "}"
    # One key: the order of more is that of a hash table.
    key = chance.random.choice([*TAGS, "a", *TAGS]) if kind == 8 else chance.random.choice(["a", "b"])
    return "{" + key + "=" + value(chance, depth + 1) + "}"


def plain(chance):
    return chance.random.choice([*NUMBERS, *TEXTS])


def script(chance, source):
    """One of the commands that run it, with keys and arguments."""
    keys = [chance.key() for _ in range(chance.count(0, 2))]
    command = b"EVAL_RO" if chance.flip(0.1) else b"EVAL"
    return [command, source.encode(), b"%d" % len(keys), *keys, *[chance.value() for _ in range(chance.count(0, 3))]]


@FAMILY.row(weight=6)
def convert(chance):
    resp = chance.random.choice(["", "", "redis.setresp(3) "])
    return script(chance, f"{resp}return {value(chance)}")


@FAMILY.row(weight=3)
def there_and_back(chance):
    library = chance.random.choice(["cjson.decode(cjson.encode(%s))", "cmsgpack.unpack(cmsgpack.pack(%s))"])
    return script(chance, "return " + library % value(chance))


@FAMILY.row(weight=2)
def encode(chance):
    function = chance.random.choice(["cjson.encode", "cmsgpack.pack", "tostring", "redis.sha1hex", "type"])
    source = value(chance)
    if function == "tostring" and ("{" in source or source in ("function() end", "KEYS", "ARGV", "cjson.null")):
        source = plain(chance)
    return script(chance, f"return {function}({source})")


@FAMILY.row(weight=3)
def decode_json(chance):
    return script(chance, f"return cjson.decode('{chance.random.choice(JSON)}')")


@FAMILY.row(weight=3)
def decode_messages(chance):
    packed = "".join(f"\\{chance.random.choice([chance.count(0, 255), 0x91, 0x81, 0xc0, 0xa1, 0xdc, 1])}" for _ in range(chance.count(0, 8)))
    call = chance.random.choice(["unpack('%s')", "unpack_one('%s')", "unpack_one('%s',1)", "unpack_limit('%s',2)", "unpack_limit('%s',1,3)"])
    return script(chance, "return {cmsgpack." + call % packed + "}")


@FAMILY.row(weight=3)
def pack_struct(chance):
    form = "".join(chance.random.choice(FORMATS) for _ in range(chance.count(1, 3)))
    if chance.flip():
        arguments = ",".join(plain(chance) for _ in range(chance.count(0, 5)))
        return script(chance, f"return struct.pack('{form}'{',' if arguments else ''}{arguments})")
    if chance.flip(0.3):
        return script(chance, f"return struct.size('{form}')")
    data = "".join(f"\\{chance.count(0, 255)}" for _ in range(chance.count(0, 40)))
    return script(chance, f"return {{struct.unpack('{form}','{data}'{chance.random.choice(['', ',2', ',0', ',100'])})}}")


@FAMILY.row(weight=2)
def bits(chance):
    numbers = ",".join(chance.random.choice(NUMBERS) for _ in range(2))
    return script(chance, chance.random.choice(
        [f"return bit.{chance.random.choice(OPERATIONS)}({numbers})", f"return bit.tohex({numbers})",
         f"return bit.{chance.random.choice(['tobit', 'bnot', 'bswap'])}({numbers})"]))


@FAMILY.row(weight=3)
def fail(chance):
    code = chance.random.choice(CODES)
    text = f'"{code}"'
    return script(chance, chance.random.choice(
        [f"error({text})", f"error({text},0)", f"error({{err={text}}})", f"return {{err={text}}}", f"return redis.error_reply({text})",
         f"return redis.status_reply({text})", f"return {{pcall(error,{text})}}", f"return {{pcall(error,{{err={text}}})}}",
         f"\n\nlocal function f() error({text}) end f()", f"return pcall(function() return redis.call({text}) end)",
         f"return {{xpcall(function() error({text}) end,function(e) return e end)}}", f"coroutine.wrap(function() error({text}) end)()",
         f"return nosuch", "x = 1", "return #nil", "local t = nil return t.x", "return 1 +", "return {} .. 'a'", f"return loadstring({text})"]))


def call_source(chance):
    """The source of one redis.call with its answer returned."""
    key = "'" + chance.key("string").decode("latin1").replace("\\", "\\\\").replace("\0", "\\0").replace("\r", "\\r").replace("\n", "\\n") + "'"
    if any(ord(letter) > 126 for letter in key):
        key = "'k1'"
    one = plain(chance)
    command = chance.random.choice(
        [f"'set',{key},{one}", f"'get',{key}", f"'incr',{key}", f"'append',{key},{one}", f"'hset',{key},'f',{one}",
         f"'lpush',{key},{one},{one}", f"'lrange',{key},0,-1", f"'zadd',{key},1.5,{one}", f"'zscore',{key},{one}",
         f"'zrange',{key},0,-1,'withscores'", f"'sadd',{key},{one}", f"'exists',{key}", f"'type',{key}", f"'strlen',{key}", f"'del',{key}",
         "'ping'", "'nosuch'", "'get'", "'multi'", "'subscribe','x'", f"'mget',{key},{key}", "'echo',{}", "", f"'set',{key},nil",
         f"'getrange',{key},0,{one}", "'config','nosuch'", f"'select',{one}", f"'pfcount',{key}", "'publish','nobody','x'",
         f"'blpop',{key},0", f"'hgetall',{key}", f"'setex',{key},1000,{one}", f"'rename',{key},'k1'", "'eval','return 1',0", "'time','x'"])
    resp = chance.random.choice(["", "redis.setresp(3) "])
    return f"{resp}return redis.{chance.random.choice(['call', 'pcall'])}({command})"


@FAMILY.row(weight=6)
def call(chance):
    return script(chance, call_source(chance))


@FAMILY.row(weight=2)
def several(chance):
    name = chance.random.choice(["k1", "k2", "k3"])
    return script(chance, f"""
local before = redis.call('get','{name}')
redis.call('set','{name}',{plain(chance)})
local changed = redis.pcall('incr','{name}')
if type(changed) == 'table' then redis.call('del','{name}') end
return {{before,changed,redis.call('exists','{name}')}}""")


@FAMILY.row(weight=2)
def cache(chance):
    source = chance.random.choice(CACHED)
    sha = chance.random.choice([*[hashlib.sha1(cached).hexdigest().encode() for cached in CACHED], b"0" * 40, b"short"])
    return chance.random.choice(
        [[b"SCRIPT", b"LOAD", source], [b"SCRIPT", b"LOAD", source], [b"EVAL", source, b"1", chance.key(), chance.value()],
         [b"EVALSHA", sha, b"0"], [b"EVALSHA", sha.upper(), b"1", chance.key(), chance.value()], [b"SCRIPT", b"DEBUG", b"NO"],
         [b"SCRIPT", b"EXISTS", sha, sha.upper()], [b"EVALSHA", sha, b"1", chance.key(), chance.value()],
         [b"EVALSHA_RO", sha, b"0"], [b"SCRIPT", b"FLUSH", *chance.words(b"SYNC", b"ASYNC")], [b"EVALSHA", sha, chance.number()], [b"SCRIPT", b"KILL"]])


@FAMILY.row(weight=3)
def flags(chance):
    words = [w for w in ["no-writes", "allow-oom", "allow-stale", "no-cluster"] if chance.flip(0.3)]
    words += [w for w in ["nosuch", ""] if chance.flip(0.05)]
    engine = chance.random.choice(["lua", "lua", "lua", "lua", "lua", "js"])
    head = chance.random.choice([f"#!{engine} flags={','.join(words)}", f"#!{engine} flags={','.join(words)}", f"#!{engine}",
                                 "#!lua flags=no-writes flags=allow-oom", "#!lua nosuch=1", "#!", "#!lua \"x"])
    return script(chance, head + chance.random.choice(["\n", "\n", "\n\n", "\r\n", ""]) + call_source(chance))
