// ioredis: what applications do with it, each scenario with connections of its own.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const Redis = require('ioredis');
const { port, socket, until } = require('./support.js');

/** Runs a scenario on an empty server; open(options) gives further connections, closed at the end. */
function scenario(name, body, options = {}) {
  test(name, async () => {
    const opened = [];
    const open = (more = {}) => {
      const client = new Redis({ port, ...more });
      client.on('error', () => {}); // commands report what matters
      opened.push(client);
      return client;
    };
    try {
      const client = open(options);
      await client.flushall();
      await body(client, open);
    } finally {
      opened.forEach((client) => client.disconnect());
    }
  });
}

scenario('values as text and as bytes', async (client) => {
  const bytes = Buffer.from([0, 255, 13, 10, 128]);
  await client.set('bytes', bytes);
  assert.deepEqual(await client.getBuffer('bytes'), bytes);
  await client.set('text', 'ä€', 'EX', 1000);
  assert.equal(await client.get('text'), 'ä€');
  assert.ok((await client.ttl('text')) > 990);
  assert.equal(await client.set('text', 'x', 'NX'), null);
  assert.equal(await client.set('text', 'x', 'GET'), 'ä€');
  const big = Buffer.alloc(3000000, 'b');
  await client.set('big', big);
  assert.deepEqual(await client.getBuffer('big'), big);
});

scenario('maps and their transformers', async (client) => {
  await client.hset('h', { a: 1, b: 'two' });
  await client.hset('h', new Map([['c', '3']]));
  assert.deepEqual(await client.hgetall('h'), { a: '1', b: 'two', c: '3' });
  await client.mset({ x: 1, y: 2 });
  assert.deepEqual(await client.mget('x', 'y', 'z'), ['1', '2', null]);
  assert.deepEqual(await client.hgetall('nosuch'), {});
});

scenario('a pipeline with an error in the middle', async (client) => {
  const replies = await client.pipeline().set('a', 'text').incr('a').get('a').exec();
  assert.deepEqual(replies[0], [null, 'OK']);
  assert.equal(replies[1][0].message, 'ERR value is not an integer or out of range');
  assert.deepEqual(replies[2], [null, 'text']);
});

scenario('MULTI, pipelined and not, and one that is aborted', async (client) => {
  assert.deepEqual(await client.multi().set('a', 1).incr('a').exec(), [[null, 'OK'], [null, 2]]);
  await client.multi({ pipeline: false });
  assert.equal(await client.incr('a'), 'QUEUED');
  assert.deepEqual(await client.exec(), [[null, 3]]);
  await assert.rejects(client.multi().set('a').exec(), /EXECABORT/);
});

scenario('WATCH sees another client', async (client, open) => {
  await client.watch('a');
  await open().set('a', 'other');
  assert.equal(await client.multi().set('a', 'mine').exec(), null);
  assert.equal(await client.get('a'), 'other');
});

scenario('commands of one tick travel together', async (client) => {
  const sums = await Promise.all(Array.from({ length: 500 }, () => client.incr('n')));
  assert.deepEqual(sums, Array.from({ length: 500 }, (_, at) => at + 1));
}, { enableAutoPipelining: true });

scenario('scan streams see every element once', async (client) => {
  const pipeline = client.pipeline();
  for (let at = 0; at < 2000; at += 1) pipeline.set(`key:${at}`, at).hset('h', `f${at}`, at).zadd('z', at, `m${at}`);
  await pipeline.exec();
  const collect = async (stream, step) => {
    const found = [];
    for await (const page of stream) for (let at = 0; at < page.length; at += step) found.push(page[at]);
    assert.equal(new Set(found).size, found.length);
    return found.length;
  };
  assert.equal(await collect(client.scanStream({ match: 'key:*', count: 100 }), 1), 2000);
  assert.equal(await collect(client.hscanStream('h'), 2), 2000);
  assert.equal(await collect(client.zscanStream('z'), 2), 2000);
  assert.equal(await collect(client.scanStream({ type: 'zset' }), 1), 1);
});

scenario('a worker waits for a job', async (client, open) => {
  const worker = open();
  const job = worker.brpop('jobs', 0);
  await until(async () => /blocked_clients:1/.test(await client.info('clients')), 'the wait');
  await client.lpush('jobs', 'first', 'second');
  assert.deepEqual(await job, ['jobs', 'first']);
  assert.equal(await worker.blmove('jobs', 'done', 'LEFT', 'RIGHT', 0), 'second');
  assert.deepEqual(await worker.lrange('done', 0, -1), ['second']);
  assert.equal(await worker.blpop('jobs', 0.01), null);
});

scenario('publish and subscribe', async (client, open) => {
  const listener = open();
  const sharded = open(); // ioredis does not keep the two kinds apart on one connection
  const heard = [];
  listener.on('message', (channel, text) => heard.push(['message', channel, text]));
  listener.on('pmessage', (pattern, channel, text) => heard.push([pattern, channel, text]));
  sharded.on('smessage', (channel, text) => heard.push(['smessage', channel, text]));
  await Promise.all([listener.ping(), sharded.ping()]); // its INFO at the start must not meet a subscriber
  assert.equal(await listener.subscribe('news', 'more'), 2);
  assert.equal(await listener.psubscribe('n*'), 3);
  await sharded.ssubscribe('shard');
  assert.equal(await client.publish('news', 'one'), 2);
  assert.equal(await client.spublish('shard', 'two'), 1);
  await until(() => heard.length === 3, 'the messages');
  assert.deepEqual(heard, [['message', 'news', 'one'], ['n*', 'news', 'one'], ['smessage', 'shard', 'two']]);
  await assert.rejects(listener.get('a'), /subscriber mode/);
  await listener.unsubscribe('news', 'more');
  await listener.punsubscribe('n*');
  await sharded.sunsubscribe('shard');
  assert.equal(await sharded.get('a'), null);
  assert.equal(await listener.get('a'), null);
});

scenario('keyspace notifications', async (client, open) => {
  await client.config('SET', 'notify-keyspace-events', 'KEA');
  try {
    const listener = open();
    const heard = [];
    listener.on('pmessage', (_, channel, text) => heard.push(`${channel} ${text}`));
    await listener.ping();
    await listener.psubscribe('__key*@0__:*');
    await client.set('a', 1, 'PX', 20);
    await until(async () => heard.length >= 6, 'the events');
    assert.deepEqual(heard, [
      '__keyspace@0__:a set', '__keyevent@0__:set a', '__keyspace@0__:a expire', '__keyevent@0__:expire a',
      '__keyspace@0__:a expired', '__keyevent@0__:expired a']);
  } finally {
    await client.config('SET', 'notify-keyspace-events', '');
  }
});

scenario('streams with a consumer group', async (client, open) => {
  await client.xgroup('CREATE', 's', 'g', '$', 'MKSTREAM');
  const reader = open();
  const waiting = reader.xreadgroup('GROUP', 'g', 'one', 'COUNT', 2, 'BLOCK', 0, 'STREAMS', 's', '>');
  await until(async () => /blocked_clients:1/.test(await client.info('clients')), 'the wait');
  const id = await client.xadd('s', '*', 'field', 'value');
  assert.deepEqual(await waiting, [['s', [[id, ['field', 'value']]]]]);
  assert.deepEqual((await client.xpending('s', 'g')).slice(0, 3), [1, id, id]);
  assert.deepEqual(await client.xautoclaim('s', 'g', 'two', 0, '0'), ['0-0', [[id, ['field', 'value']]], []]);
  assert.equal(await client.xack('s', 'g', id), 1);
  assert.equal(await client.xlen('s'), 1);
});

scenario('MONITOR', async (client, open) => {
  const monitor = await open().monitor();
  const seen = [];
  monitor.on('monitor', (_, words) => seen.push(words));
  await client.set('a', 'b\n');
  await until(() => seen.some((words) => words[0] === 'set' && words[2] === 'b\\n'), 'the command');
  monitor.disconnect();
});

scenario('a connection that is killed comes back with its state', async (client, open) => {
  const victim = open({ db: 3, connectionName: 'victim', retryStrategy: () => 5 });
  await victim.set('a', 1);
  const id = await victim.client('ID');
  assert.equal(await client.client('KILL', 'ID', id), 1);
  assert.equal(await victim.get('a'), '1');
  assert.notEqual(await victim.client('ID'), id);
  assert.equal(await victim.client('GETNAME'), 'victim');
  await victim.flushdb();
});

scenario('users', async (client, open) => {
  await client.acl('SETUSER', 'app', 'on', '>secret', '~app:*', '+@read', '+set');
  const user = open({ username: 'app', password: 'secret' });
  assert.equal(await user.acl('WHOAMI').catch((error) => error.message.split(' ')[0]), 'NOPERM');
  assert.equal(await user.set('app:1', 'x'), 'OK');
  await assert.rejects(user.set('other', 'x'), /NOPERM this user has no permissions to access one of the keys/);
  const stranger = open({ username: 'app', password: 'wrong', maxRetriesPerRequest: 0, retryStrategy: null });
  await assert.rejects(stranger.get('app:1'));
  await client.acl('DELUSER', 'app');
});

scenario('the unix socket', async (client) => {
  assert.equal(await client.ping(), 'PONG');
}, { path: socket });

scenario('a prefix for every key finds the keys by COMMAND INFO tables', async (client, open) => {
  const prefixed = open({ keyPrefix: 'p:' });
  await prefixed.mset('a', 1, 'b', 2);
  await prefixed.zadd('z', 1, 'm');
  assert.equal(await prefixed.zunionstore('out', 2, 'z', 'none'), 1);
  assert.deepEqual((await client.keys('*')).sort(), ['p:a', 'p:b', 'p:out', 'p:z']);
});
