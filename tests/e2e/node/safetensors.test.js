// What CKPT.EXPORT writes, as Hugging Face's own reader of safetensors (the package `@huggingface/hub`) sees it. That reads
// files of its hub by ranges; here its `fetch` is one that answers from a file. Its own server is never asked.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { parseSafetensorsMetadata } = require('@huggingface/hub');
const { createClient } = require('redis');
const { port, directory } = require('./support.js');

const NAME = 'model.safetensors';
const SIZE_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1,
  F8_E4M3: 1, F8_E5M2: 1, C64: 8 };

/** Answers GETs with a range out of `bytes`, as the hub does; anything but NAME is not there. */
function fetchFrom(bytes) {
  return async (url, options = {}) => {
    if (!String(url).endsWith('/' + NAME)) return new Response('', { status: 404 });
    const [, first, last] = new Headers(options.headers).get('range').match(/^bytes=(\d+)-(\d+)$/);
    const part = bytes.subarray(Number(first), Number(last) + 1);
    return new Response(part, { status: 206, headers: { etag: '"file"', 'content-length': String(part.length),
      'content-range': `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}` } });
  };
}

/** { name: { dtype, shape, bytes } } and the metadata of a file. */
async function read(bytes) {
  const found = await parseSafetensorsMetadata({ repo: 'test/run', path: NAME, hubUrl: 'http://files.invalid',
    fetch: fetchFrom(bytes), computeParametersCount: true });
  assert.equal(found.sharded, false);
  const { __metadata__: metadata, ...entries } = found.header;
  const data = bytes.subarray(8 + Number(bytes.readBigUInt64LE(0)));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
    tensors[name] = { dtype, shape, bytes: data.subarray(begin, end) };
  }
  return { metadata, tensors, parameters: found.parameterCount };
}

function everyDtype() {
  const tensors = {};
  for (const [dtype, size] of Object.entries(SIZE_BYTES)) {
    const bytes = crypto.randomBytes(15 * size);
    if (dtype === 'BOOL') bytes.forEach((byte, i) => { bytes[i] = byte & 1; });
    tensors[`of.${dtype}`] = { dtype, shape: [3, 5], bytes };
  }
  tensors.scalar = { dtype: 'F32', shape: [], bytes: crypto.randomBytes(4) };
  tensors.empty = { dtype: 'BF16', shape: [2, 0, 3], bytes: Buffer.alloc(0) };
  tensors['ä "quoted"\n'] = { dtype: 'U8', shape: [3], bytes: Buffer.from([1, 2, 3]) };
  tensors.large = { dtype: 'F16', shape: [700, 300], bytes: crypto.randomBytes(420000) };
  return tensors;
}

test('an export is read with every dtype, shape and byte', async () => {
  const client = createClient({ socket: { port } });
  await client.connect();
  try {
    const saved = everyDtype();
    const words = ['CKPT.SAVE', 'run', '1', String(Object.keys(saved).length)];
    for (const [name, { dtype, shape, bytes }] of Object.entries(saved)) {
      words.push(name, dtype, 'SHAPE', String(shape.length), ...shape.map(String), 'BLOB', bytes);
    }
    await client.sendCommand(words);
    await client.sendCommand(['CKPT.EXPORT', 'run', '1', 'FORMAT', 'safetensors', 'TO', NAME]);
    const file = fs.readFileSync(path.join(directory, NAME));
    const { metadata, tensors, parameters } = await read(file);
    assert.deepEqual(metadata, { format: 'pt' });
    assert.deepEqual(Object.keys(tensors).sort(), Object.keys(saved).sort());
    for (const [name, { dtype, shape, bytes }] of Object.entries(saved)) {
      assert.deepEqual([tensors[name].dtype, tensors[name].shape], [dtype, shape], name);
      assert.ok(bytes.equals(tensors[name].bytes), `the bytes of ${name}`);
    }
    assert.equal(parameters.F16, 15 + 210000);
  } finally {
    client.destroy();
  }
});

test('this reader refuses what is broken', async () => {
  const header = Buffer.from('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,400]}}');
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(header.length));
  await assert.rejects(read(Buffer.concat([size, header, Buffer.from('abcd')])), /exceeds the file size/);
});
