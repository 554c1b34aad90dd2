"""What scripts may do: the sandbox's functions with values of chance for arguments, and depths, counts and sizes around what
the libraries, the conversion of replies and the interpreter allow."""

from generator import Family
from generators.scripts import TEXTS, script, value

FAMILY = Family("language", weight=4)

DEPTHS = [1, 2, 7, 15, 16, 17, 60, 126, 127, 128, 999, 1000, 1001]
COUNTS = [0, 1, 199, 200, 255, 256, 1000, 7000, 7999, 8000, 8001, 20000]   # ours alone refuses what is far above (docs/scripting.md)
FUNCTIONS = [
    "tonumber", "tostring", "type", "ipairs", "next", "unpack", "rawget", "rawset", "rawequal", "select", "assert", "error", "pcall",
    "setmetatable", "getmetatable", "loadstring", "load", "setfenv", "getfenv", "collectgarbage", "gcinfo", "dofile", "print", "require",
    "string.len", "string.byte", "string.char", "string.sub", "string.upper", "string.reverse", "string.rep", "string.find",
    "string.format", "string.match", "string.gsub", "table.concat", "table.getn", "table.maxn", "table.insert", "table.remove",
    "table.sort", "math.abs", "math.floor", "math.fmod", "math.max", "math.modf", "math.ldexp", "math.frexp", "bit.band",
    "cjson.encode", "cjson.decode", "cmsgpack.pack", "struct.pack", "os.clock", "coroutine.create", "redis.sha1hex", "redis.error_reply",
    "redis.status_reply", "redis.setresp", "redis.set_repl", "redis.log", "redis.replicate_commands", "redis.acl_check_cmd", "redis.call"]
# What they give may say where a value lies in memory, what time it is or how much is in use: only the kinds are compared.
VAGUE = {"tostring", "os.clock", "gcinfo", "collectgarbage", "coroutine.create", "getfenv", "setfenv", "loadstring", "load", "getmetatable",
         "next", "ipairs", "select", "unpack", "pcall", "assert", "error", "string.format", "table.concat", "rawset"}
KINDS = "local r = {pcall(%s)} for i = 1, 4 do r[i] = r[i] == nil and 'nil' or type(r[i]) end return r"


@FAMILY.row()
def limits(chance):
    depth, many = chance.random.choice(DEPTHS), chance.random.choice(COUNTS)
    nested = f"local t = {chance.random.choice(['{}', '1', '{a=1}'])} for i = 1, {depth} do t = {{t}} end "
    brackets = f"string.rep('[', {depth}) .. string.rep(']', {depth})"
    filled = f"local t = {{}} for i = 1, {many} do t[i] = i end "
    groups = depth % 40
    return script(chance, chance.random.choice([
        nested + "return #cjson.encode(t)", nested + "return cmsgpack.unpack(cmsgpack.pack(t))", nested + "return t",
        f"return #cjson.decode({brackets})", f"return cjson.encode(cjson.decode({brackets}))",
        nested + f"cjson.encode_max_depth({depth}) local ok, e = pcall(cjson.encode, t) cjson.encode_max_depth(1000) return {{ok and #e or e}}",
        f"return {{select('#', unpack({{}}, 1, {many}))}}", filled + "return #t + select('#', unpack(t))",
        filled + "return #{redis.pcall('ping', unpack(t))}", filled + "return #table.concat(t, ',')",
        f"local function f(n) if n == 0 then return 0 end return 1 + f(n - 1) end return f({many})",
        f"local function f(n) if n == 0 then return 0 end return f(n - 1) end return f({many})",
        f"return #string.rep('abc', {many})", f"return string.format('%{many % 120}d', 7)", f"return string.format('%.{many % 120}f', 1/3)",
        f"local t = {{}} for i = 1, {many} do t['k' .. i] = i end local n = 0 for _ in pairs(t) do n = n + 1 end return n",
        f"return {{string.find(string.rep('a', {many}), 'b*$')}}", f"return string.find('a', string.rep('(', {groups}))",
        f"return {{pcall(string.find, 'a', string.rep('(', {groups}) .. 'a' .. string.rep(')', {groups}))}}"]))


@FAMILY.row()
def functions(chance):
    name = chance.random.choice(FUNCTIONS)
    arguments = ",".join(value(chance, 2) for _ in range(chance.count(0, 3)))
    if name == "string.rep":  # not by 1e15
        arguments = f"{chance.random.choice(TEXTS)},{chance.count(-2, 9)}"
    elif name == "table.insert":  # not at -2^31, from where Lua moves all that is not there
        place = chance.random.choice(["", ",1", ",0", ",5", ",-3", ",2.5", ",'a'"])
        arguments = f"{chance.random.choice(['{}', '{1,2}', '1', 'nil'])}{place},{value(chance, 2)}"
    elif name == "string.format":
        arguments = chance.random.choice(["'%d'", "'%s'", "'%5.1f'", "'%q'", "'%y'", "'%'", "'%c%%'"]) + (arguments and "," + arguments)
    call = f"pcall({name}{',' if arguments else ''}{arguments})"
    return script(chance, KINDS.replace("pcall(%s)", call) if name in VAGUE else f"return {{{call}}}")
