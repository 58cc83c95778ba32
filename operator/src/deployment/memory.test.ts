import { describe, expect, it } from 'vitest';
import { estimateMemory, resolveEngine, resourcesFor } from './memory.ts';

const MiB = 1024 * 1024;
const engine = { contextLength: 4096, parallelRequests: 4, kvCacheType: 'F16' } as const;

/** @param kvCache MiB for 1024 tokens */
const gguf = (kvCache: number) => ({
  metadata: { format: 'GGUF' } as const,
  estimate: { weights: 1000 * MiB, kvCachePer1kTokens: kvCache * MiB },
});

describe('estimateMemory', () => {
  it('adds up weights, KV cache of all requests, and overhead, in steps of 16 MiB', () => {
    expect(estimateMemory(1000 * MiB, gguf(10), engine)).toEqual({
      weights: 1000 * MiB,
      kvCache: 160 * MiB,
      overhead: 404 * MiB,
      promptCache: 160 * MiB,
      total: 1728 * MiB,
      device: 0,
    });
  });
  it.each([
    ['F16', 160],
    ['Q8_0', 85],
    ['Q4_0', 45],
  ] as const)('a KV cache of %s takes %d MiB', (kvCacheType, expected) => {
    expect(estimateMemory(1000 * MiB, gguf(10), { ...engine, kvCacheType }).kvCache).toBe(expected * MiB);
  });
  it('of an ONNX model has room for packed weights and for the request at work, in the type that the graph has', () => {
    const model = { ...gguf(10), metadata: { format: 'ONNX' } as const };
    expect(estimateMemory(1000 * MiB, model, engine)).toMatchObject({
      kvCache: 210 * MiB,
      overhead: 570 * MiB,
      promptCache: 208 * MiB,
    });
    const embedding = { ...model, estimate: { weights: 1000 * MiB, kvCachePer1kTokens: 0 } };
    expect(estimateMemory(20 * MiB, embedding, engine)).toMatchObject({ kvCache: 0, promptCache: 0, total: 352 * MiB });
  });
  it('takes a quarter of the weights where the header tells nothing', () => {
    expect(estimateMemory(1000 * MiB, {}, engine)).toMatchObject({ kvCache: 250 * MiB, promptCache: 0 });
  });
});

describe('the prompt cache', () => {
  const memoryOf = (perThousandTokens: number, spec: Parameters<typeof estimateMemory>[3]) =>
    estimateMemory(1000 * MiB, gguf(perThousandTokens), engine, spec);
  it.each([
    ['is as large as the KV cache', 10, {}, 160],
    ['takes half a gibibyte at most', 100, {}, 512],
    ['has the size that was asked for', 10, { engine: { promptCache: { maxSize: '1Gi' } } }, 1024],
    ['is not there when nobody wants it', 10, { engine: { promptCache: { maxSize: 0 } } }, 0],
    ['leaves what the server needs of a limit', 10, { resources: { limits: { memory: '1650Mi' } } }, 80],
    ['takes nothing of a limit that is small already', 10, { resources: { limits: { memory: '1500Mi' } } }, 0],
  ])('%s', (_, perThousandTokens, spec, expected) => {
    const { promptCache, total } = memoryOf(perThousandTokens, spec);
    expect(promptCache).toBe(expected * MiB);
    expect(total).toBe(memoryOf(perThousandTokens, { engine: { promptCache: { maxSize: 0 } } }).total + promptCache);
  });
});

describe('resolveEngine', () => {
  it.each([
    ['the model’s own context when that is smaller', undefined, 2048, 2048],
    ['4096 for a model of long contexts', undefined, 131_072, 4096],
    ['4096 when nobody knows', undefined, undefined, 4096],
    ['what the spec says', { contextLength: 8192 }, 2048, 8192],
  ])('%s', (_, spec, contextLength, expected) => {
    const metadata = { format: 'GGUF', ...(contextLength === undefined ? {} : { contextLength }) } as const;
    expect(resolveEngine(spec, { metadata }).contextLength).toBe(expected);
  });
});

describe('resourcesFor', () => {
  const memory = { weights: 0, kvCache: 0, overhead: 0, promptCache: 0, total: 512 * MiB, device: 0 };
  it.each([
    ['nothing said', undefined, { requests: { memory: '512Mi', cpu: '500m' }, limits: { memory: '512Mi' } }],
    [
      'only CPU said',
      { requests: { cpu: 2 }, limits: { cpu: '4' } },
      { requests: { cpu: '2', memory: '512Mi' }, limits: { cpu: '4', memory: '512Mi' } },
    ],
    ['a memory limit said', { limits: { memory: '1Gi' } }, { requests: { cpu: '500m' }, limits: { memory: '1Gi' } }],
    ['a memory request alone said', { requests: { memory: '1Gi' } }, { requests: { memory: '1Gi', cpu: '500m' } }],
  ])('%s', (_, spec, expected) => {
    expect(resourcesFor(spec, memory)).toEqual(expected);
  });
});
