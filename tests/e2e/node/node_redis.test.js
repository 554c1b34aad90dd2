// node-redis (the package `redis`), with RESP2 and with RESP3.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { createClient, createClientPool, RESP_TYPES, WatchError, ErrorReply } = require('redis');
const { port, socket, until } = require('./support.js');

/** Runs a scenario on an empty server, once with each protocol that is named. */
function scenario(name, protocols, body) {
  for (const RESP of protocols) {
    test(`${name}, RESP${RESP}`, async () => {
      const opened = [];
      const open = async (options = {}) => {
        const client = createClient({ RESP, socket: { port }, ...options });
        client.on('error', () => {}); // commands report what matters
        opened.push(client);
        await client.connect();
        return client;
      };
      try {
        const client = await open();
        await client.flushAll();
        await body(client, open, RESP);
      } finally {
        for (const client of opened) if (client.isOpen) client.destroy();
      }
    });
  }
}

scenario('values and options', [2, 3], async (client) => {
  assert.equal(await client.set('a', 'ä€', { expiration: { type: 'EX', value: 1000 } }), 'OK');
  assert.equal(await client.get('a'), 'ä€');
  assert.ok((await client.ttl('a')) > 990);
  assert.equal(await client.set('a', 'x', { condition: 'NX' }), null);
  const bytes = Buffer.from([0, 255, 13, 10]);
  await client.set('bytes', bytes);
  const typed = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  assert.deepEqual(await typed.get('bytes'), bytes);
  await assert.rejects(client.incr('a'), (error) => error instanceof ErrorReply && /not an integer/.test(error.message));
});

scenario('maps, sets, doubles and nulls look the same in both protocols', [2, 3], async (client) => {
  await client.hSet('h', { a: '1', b: '2' });
  assert.deepEqual({ ...(await client.hGetAll('h')) }, { a: '1', b: '2' });
  await client.sAdd('s', ['x', 'y']);
  assert.deepEqual((await client.sMembers('s')).sort(), ['x', 'y']);
  await client.zAdd('z', [{ score: 1.5, value: 'm' }, { score: -2, value: 'n' }]);
  assert.equal(await client.zScore('z', 'm'), 1.5);
  assert.equal(await client.zScore('z', 'none'), null);
  assert.deepEqual(await client.zRangeWithScores('z', 0, -1), [{ value: 'n', score: -2 }, { value: 'm', score: 1.5 }]);
  assert.deepEqual({ ...(await client.configGet('maxmemory')) }, { maxmemory: '0' });
  assert.deepEqual(await client.geoPos('none', 'x'), [null]);
  assert.equal((await client.commandCount()) > 200, true);
});

scenario('transactions', [2, 3], async (client, open) => {
  assert.deepEqual(await client.multi().set('a', '1').incr('a').get('a').exec(), ['OK', 2, '2']);
  await client.watch('a');
  await (await open()).set('a', 'other');
  await assert.rejects(client.multi().set('a', 'mine').exec(), WatchError);
  assert.equal(await client.get('a'), 'other');
});

scenario('iteration', [2, 3], async (client) => {
  const many = client.multi();
  for (let at = 0; at < 1500; at += 1) many.set(`key:${at}`, `${at}`).sAdd('s', `m${at}`);
  await many.execAsPipeline();
  const found = [];
  for await (const page of client.scanIterator({ MATCH: 'key:*', COUNT: 100 })) found.push(...page);
  assert.equal(found.length, 1500);
  assert.equal(new Set(found).size, 1500);
  const members = [];
  for await (const page of client.sScanIterator('s')) members.push(...page);
  assert.equal(new Set(members).size, 1500);
});

scenario('a pool, and blocking commands on it', [2, 3], async (client, open, RESP) => {
  const pool = createClientPool({ RESP, socket: { port } }, { minimum: 1, maximum: 4 });
  pool.on('error', () => {});
  await pool.connect();
  try {
    const waits = Promise.all([pool.blPop('q', 0), pool.blPop('q', 0)]);
    await until(async () => /blocked_clients:2/.test(await client.info('clients')), 'two waits');
    await client.rPush('q', ['one', 'two']);
    assert.deepEqual((await waits).map((reply) => reply.element).sort(), ['one', 'two']);
    await Promise.all(Array.from({ length: 200 }, () => pool.incr('n')));
    assert.equal(await pool.get('n'), '200');
  } finally {
    pool.destroy();
  }
});

scenario('publish and subscribe; with RESP3 on a connection that also asks', [2, 3], async (client, open, RESP) => {
  const listener = await open();
  const sharded = await open(); // node-redis does not keep the two kinds apart on one connection
  const heard = [];
  await listener.subscribe('news', (text, channel) => heard.push([channel, text]));
  await listener.pSubscribe('n*', (text, channel) => heard.push([`p:${channel}`, text]));
  await sharded.sSubscribe('shard', (text, channel) => heard.push([channel, text]));
  assert.equal(await client.publish('news', 'one'), 2);
  assert.equal(await client.sPublish('shard', 'two'), 1);
  await until(() => heard.length === 3, 'the messages');
  assert.deepEqual(heard, [['news', 'one'], ['p:news', 'one'], ['shard', 'two']]);
  if (RESP === 3) assert.equal(await listener.get('none'), null);
  await listener.unsubscribe('news');
  await listener.pUnsubscribe('n*');
  await sharded.sUnsubscribe('shard');
  assert.equal(await listener.get('none'), null);
});

scenario('client-side caching', [3], async (client, open) => {
  const cached = await open({ clientSideCache: { ttl: 0, maxEntries: 0 } });
  await client.set('a', 'one');
  assert.equal(await cached.get('a'), 'one');
  assert.equal(await cached.get('a'), 'one');
  const calls = async () => Number(/cmdstat_get:calls=(\d+)/.exec(await client.info('commandstats'))[1]);
  const before = await calls();
  await cached.get('a');
  assert.equal(await calls(), before, 'the second GET did not reach the server');
  await client.set('a', 'two');
  await until(async () => (await cached.get('a')) === 'two', 'the invalidation');
});

scenario('streams', [2], async (client) => {
  const id = await client.xAdd('s', '*', { field: 'value' });
  await client.xGroupCreate('s', 'g', '0');
  const read = await client.xReadGroup('g', 'one', { key: 's', id: '>' }, { COUNT: 5 });
  assert.equal(read[0].name, 's');
  assert.deepEqual(read[0].messages.map((message) => [message.id, { ...message.message }]), [[id, { field: 'value' }]]);
  assert.equal((await client.xPending('s', 'g')).pending, 1);
  assert.equal(await client.xAck('s', 'g', id), 1);
  const info = await client.xInfoStream('s');
  assert.equal(info.length, 1);
  assert.equal((await client.xInfoGroups('s'))[0].name, 'g');
});

scenario('many commands at once keep their order', [2, 3], async (client) => {
  const sums = await Promise.all(Array.from({ length: 3000 }, () => client.incr('n')));
  assert.deepEqual(sums, Array.from({ length: 3000 }, (_, at) => at + 1));
});

scenario('a connection that is killed comes back', [2, 3], async (client, open, RESP) => {
  const victim = await open({ database: 2, name: 'victim', socket: { port, reconnectStrategy: 5 } });
  const id = await victim.clientId();
  assert.equal(await client.clientKill({ filter: 'ID', id }), 1);
  await until(async () => (await victim.clientId().catch(() => id)) !== id, 'the new connection');
  assert.equal(await victim.clientGetName(), 'victim');
  assert.equal((await victim.clientInfo()).db, 2);
  assert.equal(Number((await victim.clientInfo()).resp || RESP), RESP);
});

scenario('users', [2, 3], async (client, open) => {
  await client.aclSetUser('app', ['on', '>secret', '~app:*', '+@read', '+set', '+client', '+hello']);
  const user = await open({ username: 'app', password: 'secret' });
  assert.equal(await user.set('app:1', 'x'), 'OK');
  await assert.rejects(user.set('other', 'x'), /NOPERM/);
  assert.equal((await client.aclGetUser('app')).keys, '~app:*');
  await assert.rejects(open({ username: 'app', password: 'no', socket: { port, reconnectStrategy: false } }), /WRONGPASS/);
  await client.aclDelUser('app');
});

scenario('the unix socket', [2, 3], async (client, open) => {
  assert.equal(await (await open({ socket: { path: socket } })).ping(), 'PONG');
});
