// redlock: locks that many want.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const Redis = require('ioredis');
const { default: Redlock, ExecutionError } = require('redlock');
const { port } = require('./support.js');

function scenario(name, body) {
  test(name, async () => {
    const client = new Redis({ port });
    try {
      await client.flushall();
      await body(client);
    } finally {
      client.disconnect();
    }
  });
}

scenario('ten that want one lock get it one after the other', async (client) => {
  const locks = new Redlock([client], { retryCount: 400, retryDelay: 5, retryJitter: 5 });
  let inside = 0;
  let turns = 0;
  await Promise.all([...Array(10)].map(async () => {
    const lock = await locks.acquire(['door'], 10000);
    inside += 1;
    assert.equal(inside, 1);
    await new Promise((resolve) => setTimeout(resolve, 3));
    turns += 1;
    inside -= 1;
    await lock.release();
  }));
  assert.equal(turns, 10);
  assert.equal(await client.exists('door'), 0);
});

scenario('a lock that is held is refused, extended and released', async (client) => {
  const locks = new Redlock([client], { retryCount: 0 });
  let lock = await locks.acquire(['a', 'b'], 5000);
  await assert.rejects(locks.acquire(['b'], 5000), ExecutionError);
  assert.ok((await client.pttl('a')) <= 5000);
  lock = await lock.extend(60000);
  assert.ok((await client.pttl('a')) > 50000);
  await lock.release();
  await assert.rejects(lock.release(), ExecutionError);
  await (await locks.acquire(['b'], 5000)).release();
});

scenario('a lock that ran out is not released by its old owner', async (client) => {
  const locks = new Redlock([client], { retryCount: 0 });
  const lock = await locks.acquire(['x'], 5000);
  await client.set('x', 'another');
  await assert.rejects(lock.release(), ExecutionError);
  assert.equal(await client.get('x'), 'another');
});

scenario('using() extends while the work lasts', async (client) => {
  const locks = new Redlock([client], { retryCount: 0, automaticExtensionThreshold: 150 });
  const value = await locks.using(['job'], 300, async (signal) => {
    await new Promise((resolve) => setTimeout(resolve, 700));
    assert.equal(signal.aborted, false);
    assert.equal(await client.exists('job'), 1);
    return 'done';
  });
  assert.equal(value, 'done');
  assert.equal(await client.exists('job'), 0);
});
