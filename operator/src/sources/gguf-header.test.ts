import { makeGguf, tinyLlama } from '@slm-operator/test/fixtures/gguf';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseGgufHeader } from './gguf-header.ts';

function headerOf(bytes: Uint8Array) {
  const parsed = parseGgufHeader(bytes);
  if (parsed.kind !== 'header') throw new Error(`expected a header, got ${JSON.stringify(parsed)}`);
  return parsed.header;
}

function messageOf(bytes: Uint8Array): string {
  const parsed = parseGgufHeader(bytes);
  return parsed.kind === 'invalid' ? parsed.message : parsed.kind;
}

const tensors = [
  { name: 'token_embd.weight', dimensions: [64, 4] },
  { name: 'blk.0.attn_q.weight', dimensions: [64, 64] },
];

describe('the header of a GGUF file', () => {
  test('gives what status and estimate need', () => {
    const bytes = makeGguf({ tensors });
    expect(headerOf(bytes)).toEqual({
      version: 3,
      architecture: 'llama',
      name: 'Tiny',
      license: 'apache-2.0',
      parameters: 64 * 4 + 64 * 64,
      quantization: 'F32',
      contextLength: 2048,
      layers: 2,
      hasChatTemplate: true,
      // 2 layers, 2 key-value heads of 16 + 16 numbers, 2 bytes each, 1024 tokens.
      kvCachePer1kTokens: 2 * 2 * 32 * 2 * 1024,
      splitCount: 1,
      tensorCount: 2,
      minimumSize: bytes.byteLength,
    });
  });

  test('of version 2 reads the same', () => {
    expect(headerOf(makeGguf({ version: 2, tensors })).architecture).toBe('llama');
  });

  test('takes the quantisation from the tensors where the file does not name it', () => {
    const { 'general.file_type': _, ...values } = tinyLlama;
    expect(headerOf(makeGguf({ values, tensors: [{ name: 'a', dimensions: [256, 4], type: 12 }] })).quantization).toBe(
      'Q4_K',
    );
  });

  test('with explicit head sizes and a list of heads counts every layer by itself', () => {
    const values = {
      ...tinyLlama,
      'llama.block_count': 3,
      'llama.attention.head_count_kv': [1, 0, 4],
      'llama.attention.key_length': 80,
      'llama.attention.value_length': 40,
    };
    expect(headerOf(makeGguf({ values })).kvCachePer1kTokens).toBe(5 * 120 * 2 * 1024);
  });

  test('without attention gives no estimate of the cache', () => {
    const header = headerOf(makeGguf({ values: { 'general.architecture': 'mamba', 'mamba.block_count': 4 } }));
    expect(header).not.toHaveProperty('kvCachePer1kTokens');
    expect(header.hasChatTemplate).toBe(false);
  });

  test('keeps a long list out of memory and still reads what follows', () => {
    const values = { 'x.list': Array.from({ length: 5000 }, (_, index) => index), ...tinyLlama };
    expect(headerOf(makeGguf({ values })).layers).toBe(2);
  });

  test('says how many bytes the last tensor needs', () => {
    const bytes = makeGguf({ tensors, dataBytes: 100 });
    expect(headerOf(bytes).minimumSize).toBeGreaterThan(bytes.byteLength);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['a web page', Buffer.from('<!DOCTYPE html><html>'), /begins with "<!DOCTYPE html>.*web page/],
    ['a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /Git LFS pointer/],
    ['a zip archive', Buffer.from('PK\x03\x04....'), /zip archive/],
    ['gzip', Buffer.from([0x1f, 0x8b, 8, 0, 0, 0]), /begins with the bytes 1f8b08000000.*gzip/],
    ['safetensors', Buffer.from('\x09\0\0\0\0\0\0\0{"a":{}}'), /safetensors/],
    ['plain text', Buffer.from('hello world'), /begins with "hello world", and a GGUF file begins with "GGUF"$/],
    ['GGUF version 1', makeGguf({ version: 1 }), /version 1.*convert/],
    ['a future version', makeGguf({ version: 9 }), /version 9.*reads versions 2 and 3/],
    ['a big-endian file', makeGguf({ version: 0x03000000 }), /big-endian/],
    [
      'a count beyond reason',
      Buffer.concat([makeGguf().subarray(0, 8), Buffer.alloc(16, 0xff)]),
      /number of tensors is 18446744073709551615/,
    ],
    ['a text that is too long', hostile(Buffer.from('ffffffff0f000000', 'hex')), /a key has 68719476735 bytes/],
  ])('%s is told apart', (_, bytes, message) => {
    expect(messageOf(bytes)).toMatch(message);
  });

  test('that ends too early says how far it must be read', () => {
    const bytes = makeGguf({ tensors });
    const end = bytes.byteLength - tensors.length * 64 * 64 * 4;
    for (let length = 0; length < Math.min(end, 700); length++) {
      const parsed = parseGgufHeader(bytes.subarray(0, length));
      expect(parsed.kind).toBe('incomplete');
      if (parsed.kind === 'incomplete') expect(parsed.bytes).toBeGreaterThan(length);
    }
  });
});

describe('hostile bytes', () => {
  test('never throw and never take long, whatever follows the magic', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), fc.constantFrom(2, 3), (rest, version) => {
        const bytes = Buffer.concat([Buffer.from('GGUF'), Buffer.from([version, 0, 0, 0]), rest]);
        expect(['header', 'incomplete', 'invalid']).toContain(parseGgufHeader(bytes).kind);
      }),
      { numRuns: 2000 },
    );
  });

  test('a good header with flipped bytes gives a header, more bytes wanted, or a sentence', () => {
    const good = makeGguf({ tensors, dataBytes: 0 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.byteLength - 5), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        (changes) => {
          const bytes = Buffer.from(good);
          for (const [at, value] of changes) bytes[at + 4] = value;
          const parsed = parseGgufHeader(bytes);
          if (parsed.kind === 'header') {
            expect(Number.isSafeInteger(parsed.header.parameters)).toBe(true);
            expect(Number.isSafeInteger(parsed.header.minimumSize)).toBe(true);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});

/** A header with one value whose key has the length given in eight bytes. */
function hostile(keyLength: Buffer): Buffer {
  const start = makeGguf({ values: {}, dataBytes: 0 }).subarray(0, 16);
  return Buffer.concat([start, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), keyLength, Buffer.alloc(64)]);
}
