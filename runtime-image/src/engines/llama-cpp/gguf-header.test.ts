import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readGgufHeader } from './gguf-header.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-gguf-'));
});

afterAll(() => rm(folder, { recursive: true }));

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

async function file(name: string, ...parts: Buffer[]): Promise<string> {
  const at = path.join(folder, name);
  await writeFile(at, Buffer.concat([Buffer.from('GGUF'), u32(3), ...parts]));
  return at;
}

test('a real model: what the engine asks for', async () => {
  const { path: model, size } = await smollm2();
  const { values, lengths, tensors } = await readGgufHeader(model);
  expect(values.get('general.architecture')).toBe('llama');
  expect(values.get('llama.context_length')).toBe(8192);
  expect(values.get('tokenizer.chat_template')).toContain('<|im_start|>');
  expect(lengths.get('tokenizer.ggml.tokens')).toBe(49_152);
  expect(values.has('tokenizer.ggml.tokens')).toBe(false);
  expect(tensors).toHaveLength(272);
  expect(Math.max(...tensors.map((tensor) => tensor.start))).toBeLessThan(size);
});

test('values of each type, and lists', async () => {
  const header = await readGgufHeader(
    await file(
      'values.gguf',
      u64(0),
      u64(5),
      Buffer.concat([text('a'), u32(5), u32(0xffff_ffff)]),
      Buffer.concat([text('b'), u32(7), Buffer.of(1)]),
      Buffer.concat([text('c'), u32(10), u64(2 ** 40)]),
      Buffer.concat([text('d'), u32(9), u32(4), u64(2), u32(7), u32(8)]),
      Buffer.concat([text('e'), u32(9), u32(8), u64(2), text('x'), text('yz')]),
    ),
  );
  expect(Object.fromEntries(header.values)).toEqual({ a: -1, b: true, c: 2 ** 40, d: [7, 8], e: ['x', 'yz'] });
  expect(Object.fromEntries(header.lengths)).toEqual({ d: 2, e: 2 });
});

test('a header that is longer than the first read', async () => {
  const long = 'x'.repeat(5 * 2 ** 20);
  const at = await file('long.gguf', u64(0), u64(1), text('t'), u32(8), text(long));
  expect((await readGgufHeader(at)).values.get('t')).toBe(long);
});

test('a file that ends in its header, or is damaged, is refused', async () => {
  const cut = await file('cut.gguf', u64(0), u64(1), text('t'), u32(8), u64(1000), Buffer.from('short'));
  await expect(readGgufHeader(cut)).rejects.toThrow(RangeError);
  const strange = await file('strange.gguf', u64(0), u64(1), text('t'), u32(99), u64(1));
  await expect(readGgufHeader(strange)).rejects.toThrow('unknown type 99');
  const other = path.join(folder, 'other.gguf');
  await writeFile(other, 'this is a text and nothing else');
  await expect(readGgufHeader(other)).rejects.toThrow('no GGUF file');
  const endless = await file('endless.gguf', u64(0), u64(2 ** 52), text('t'), u32(4), u32(1));
  await expect(readGgufHeader(endless)).rejects.toThrow(RangeError);
});
