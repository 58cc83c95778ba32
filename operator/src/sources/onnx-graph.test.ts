import { makeOnnx } from '@slm-operator/test/fixtures/onnx/graph';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseOnnxGraph } from './onnx-graph.ts';

function graphOf(bytes: Uint8Array) {
  const parsed = parseOnnxGraph(bytes);
  if (parsed.kind === 'graph') return parsed.graph;
  throw new Error(parsed.message);
}

const cache = (layer: number) =>
  ['key', 'value'].map((kind) => ({
    name: `past_key_values.${layer}.${kind}`,
    type: 'float16' as const,
    shape: ['batch', 3, 'past', 64],
  }));

describe('a graph says', () => {
  test('where its weights lie, and how far they reach', () => {
    const weights = [
      { name: 'a', type: 'float32', shape: [4, 4], location: 'model.onnx.data', offset: 0, bytes: 64 },
      { name: 'b', type: 'float32', shape: [4, 4], location: 'model.onnx.data', offset: 4096, bytes: 64 },
      { name: 'c', type: 'float32', shape: [2], location: 'other.bin', bytes: 8 },
    ] as const;
    expect(graphOf(makeOnnx({ weights }))).toEqual({
      opset: 21,
      external: [
        { location: 'model.onnx.data', size: 4160 },
        { location: 'other.bin', size: 8 },
      ],
      parameters: 34,
      quantization: 'FP32',
      cachePerToken: 0,
    });
  });

  test('how many weights there are in packed ones', () => {
    const { parameters, quantization } = graphOf(
      makeOnnx({
        nodes: [{ operator: 'MatMulNBits', inputs: ['x', 'w', 's'], numbers: { N: 100, K: 64, bits: 4 } }],
        weights: [
          { name: 'w', type: 'uint8', shape: [100, 2, 16], bytes: 3200 },
          { name: 's', type: 'float32', shape: [200], bytes: 800 },
          { name: 'norm', type: 'float32', shape: [64], bytes: 256 },
          { name: 'axes', type: 'int64', shape: [5000], bytes: 0 },
        ],
      }),
    );
    expect([parameters, quantization]).toEqual([6464, 'INT4']);
  });

  test('how much cache a token takes', () => {
    const inputs = [{ name: 'input_ids', type: 'int64' as const, shape: ['b', 's'] }, ...cache(0), ...cache(1)];
    expect(graphOf(makeOnnx({ inputs })).cachePerToken).toBe(2 * 2 * 3 * 64 * 2);
    const vague = [{ name: 'past_key_values.0.key', type: 'float32' as const, shape: ['b', 'heads', 's', 'd'] }];
    expect(graphOf(makeOnnx({ inputs: vague })).cachePerToken).toBeUndefined();
  });
});

test.each([
  ['a web page', Buffer.from('<!DOCTYPE html><html>'), /begins with "<!DOCTYPE html><".*no ONNX model does/],
  ['a pointer', Buffer.from('version https://git-lfs.github.com/spec/v1'), /Git LFS pointer/],
  ['nothing', Buffer.alloc(0), /begins with nothing/],
  [
    'a file that is cut off',
    makeOnnx({ weights: [{ name: 'a', type: 'int8', shape: [9], bytes: 900 }] }).subarray(0, 500),
    /ends too early/,
  ],
])('%s is told apart', (_, bytes, expected) => {
  const parsed = parseOnnxGraph(bytes);
  expect(parsed.kind === 'invalid' ? parsed.message : 'a graph').toMatch(expected);
});

test('whatever the bytes are, there is an answer', () => {
  const whole = makeOnnx({
    inputs: cache(0),
    weights: [{ name: 'a', type: 'int8', shape: [9], location: 'x', bytes: 9 }],
    nodes: [{ operator: 'MatMulNBits', inputs: ['a'], numbers: { N: 3, K: 3 } }],
  });
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const changed = Buffer.from(whole);
      changed[at] = byte;
      expect(['graph', 'invalid']).toContain(parseOnnxGraph(changed).kind);
    }),
    { numRuns: 2000 },
  );
});
