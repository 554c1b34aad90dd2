// rate-limiter-flexible: points that run out and come back.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const Redis = require('ioredis');
const { RateLimiterRedis, RateLimiterQueue } = require('rate-limiter-flexible');
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

scenario('five of eight at once pass', async (client) => {
  const limiter = new RateLimiterRedis({ storeClient: client, points: 5, duration: 100 });
  const ended = await Promise.allSettled([...Array(8)].map(() => limiter.consume('user')));
  assert.equal(ended.filter((each) => each.status === 'fulfilled').length, 5);
  const refused = ended.find((each) => each.status === 'rejected').reason;
  assert.equal(refused.remainingPoints, 0);
  assert.ok(refused.msBeforeNext > 90000);
  assert.equal((await limiter.get('user')).consumedPoints, 8);
  assert.equal((await limiter.consume('another', 2)).remainingPoints, 3);
});

scenario('points come back when their time is over', async (client) => {
  const limiter = new RateLimiterRedis({ storeClient: client, points: 1, duration: 1 });
  await limiter.consume('user');
  const refused = await limiter.consume('user').then(() => null, (reason) => reason);
  assert.ok(refused.msBeforeNext > 0 && refused.msBeforeNext <= 1000);
  await new Promise((resolve) => setTimeout(resolve, refused.msBeforeNext + 20));
  assert.equal((await limiter.consume('user')).consumedPoints, 1);
});

scenario('penalty, reward, block and delete', async (client) => {
  const limiter = new RateLimiterRedis({ storeClient: client, points: 5, duration: 100, keyPrefix: 'p' });
  await limiter.penalty('user', 3);
  assert.equal((await limiter.reward('user', 1)).consumedPoints, 2);
  await limiter.block('user', 50);
  const refused = await limiter.consume('user').then(() => null, (reason) => reason);
  assert.ok(refused.msBeforeNext > 40000 && refused.msBeforeNext <= 50000);
  assert.equal(await limiter.delete('user'), true);
  assert.equal(await limiter.get('user'), null);
});

scenario('a queue of requests', async (client) => {
  const limiter = new RateLimiterRedis({ storeClient: client, points: 3, duration: 1 });
  const queue = new RateLimiterQueue(limiter);
  const left = await Promise.all([...Array(5)].map(() => queue.removeTokens(1)));
  assert.equal(left.length, 5);
});
