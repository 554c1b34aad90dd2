// BullMQ, a queue made of Lua scripts: the life of jobs as applications use them.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Queue, Worker, QueueEvents, FlowProducer } = require('bullmq');
const Redis = require('ioredis');
const { port, until } = require('./support.js');

const connection = { port, maxRetriesPerRequest: null };

/** Runs a scenario on a queue of its own; what keep() is given is closed at the end, newest first. */
function scenario(name, body) {
  test(name, async () => {
    const open = [];
    const keep = (thing) => {
      thing.on('error', () => {}); // the scenario's own checks report what matters
      open.push(thing);
      return thing;
    };
    const title = `q-${name.replace(/[^a-z]+/gi, '-')}`;
    try {
      await body(title, keep);
    } finally {
      for (const thing of open.reverse()) await thing.close();
    }
  });
}

scenario('a hundred jobs with four at a time', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  const seen = new Set();
  let running = 0;
  let most = 0;
  await queue.addBulk([...Array(100).keys()].map((n) => ({ name: 'sum', data: { n } })));
  keep(new Worker(title, async (job) => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, 2));
    running -= 1;
    seen.add(job.data.n);
    return job.data.n * 2;
  }, { connection, concurrency: 4 }));
  await until(async () => (await queue.getCompletedCount()) === 100, 'a hundred completed jobs');
  assert.equal(seen.size, 100);
  assert.ok(most > 1 && most <= 4, `${most} at a time`);
  const jobs = await queue.getCompleted(0, -1);
  assert.ok(jobs.every((job) => job.returnvalue === job.data.n * 2));
  const counts = await queue.getJobCounts('waiting', 'active', 'failed');
  assert.deepEqual([counts.waiting, counts.active, counts.failed], [0, 0, 0]);
});

scenario('a job that fails twice and then does not', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  const events = keep(new QueueEvents(title, { connection }));
  await events.waitUntilReady();
  keep(new Worker(title, async (job) => {
    if (job.attemptsMade < 2) throw new Error('not yet');
    return 'at last';
  }, { connection }));
  const job = await queue.add('stubborn', {}, { attempts: 3, backoff: { type: 'fixed', delay: 20 } });
  assert.equal(await job.waitUntilFinished(events, 20000), 'at last');
  const again = await queue.getJob(job.id);
  assert.equal(again.attemptsMade, 3);
});

scenario('a job that fails for good', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  keep(new Worker(title, async () => { throw new Error('no'); }, { connection }));
  const job = await queue.add('hopeless', {}, { attempts: 2, backoff: 5 });
  await until(async () => (await queue.getFailedCount()) === 1, 'the failure');
  const failed = await queue.getJob(job.id);
  assert.equal(failed.failedReason, 'no');
  assert.equal(failed.attemptsMade, 2);
  await failed.remove();
  assert.equal(await queue.getFailedCount(), 0);
});

scenario('delayed jobs keep their order and their time', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  const order = [];
  const begin = Date.now();
  await queue.add('late', {}, { delay: 300 });
  await queue.add('soon', {}, { delay: 100 });
  await queue.add('now', {});
  assert.equal(await queue.getDelayedCount(), 2);
  keep(new Worker(title, async (job) => {
    order.push(job.name);
    if (job.name === 'late') assert.ok(Date.now() - begin >= 295);
  }, { connection }));
  await until(() => order.length === 3, 'three jobs');
  assert.deepEqual(order, ['now', 'soon', 'late']);
});

scenario('a job that repeats', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  let runs = 0;
  keep(new Worker(title, async () => { runs += 1; }, { connection }));
  await queue.add('tick', {}, { repeat: { every: 50, limit: 3 } });
  await until(() => runs === 3, 'three runs');
  await until(async () => (await queue.getCompletedCount()) === 3, 'three completed');
});

scenario('priorities, pause and drain', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  await queue.pause();
  for (const priority of [3, 1, 2]) await queue.add(`p${priority}`, {}, { priority });
  const order = [];
  keep(new Worker(title, async (job) => { order.push(job.name); }, { connection }));
  assert.equal(await queue.isPaused(), true);
  assert.deepEqual(order, []);
  await queue.resume();
  await until(() => order.length === 3, 'three jobs');
  assert.deepEqual(order, ['p1', 'p2', 'p3']);
  await queue.pause();
  await queue.add('left', {});
  await queue.drain();
  assert.equal(await queue.count(), 0);
});

scenario('a parent waits for its children', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  const flow = keep(new FlowProducer({ connection }));
  keep(new Worker(title, async (job) => {
    if (job.name !== 'parent') return job.data.value;
    return Object.values(await job.getChildrenValues()).reduce((sum, value) => sum + value, 0);
  }, { connection }));
  const tree = await flow.add({
    name: 'parent', queueName: title,
    children: [1, 2, 3].map((value) => ({ name: 'child', data: { value }, queueName: title })),
  });
  await until(async () => (await tree.job.getState()) === 'completed', 'the parent');
  assert.equal((await queue.getJob(tree.job.id)).returnvalue, 6);
});

scenario('the same id is one job, and nothing is left when the queue goes', async (title, keep) => {
  const queue = keep(new Queue(title, { connection }));
  await queue.add('one', {}, { jobId: 'fixed' });
  await queue.add('one', {}, { jobId: 'fixed' });
  assert.equal(await queue.getWaitingCount(), 1);
  await queue.obliterate({ force: true });
  const client = new Redis({ port });
  assert.deepEqual(await client.keys(`bull:${title}:*`), []);
  client.disconnect();
});
