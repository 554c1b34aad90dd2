// What the scenarios share: where the server is, and waiting by polling.
'use strict';

const port = Number(process.env.CAIRN_PORT);
const socket = process.env.CAIRN_SOCKET;
const directory = process.env.CAIRN_DIRECTORY; // where the server reads and writes files
const LIMIT_MS = 30000;
const POLL_MS = 10;

/** Polls until condition() gives something true, and returns it. Rejects after LIMIT_MS. */
async function until(condition, what) {
  const deadline = Date.now() + LIMIT_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not come true`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

module.exports = { port, socket, directory, until };
