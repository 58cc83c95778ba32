import { describe, expect, it } from 'vitest';
import { parseArguments, QUESTION } from './arguments.ts';
import { sseData } from './chat.ts';
import { makeStopwatch } from './stopwatch.ts';
import { isReady, reasonOf } from './watch.ts';

describe('the command line', () => {
  it('needs nothing', () => {
    expect(parseArguments([])).toEqual({ help: false, yes: false, fresh: false, nodes: 3, question: QUESTION });
  });

  it.each([
    [['--nodes', '0'], '--nodes is "0": write a number from 1 to 9'],
    [['--provider', 'docker'], 'write bare or kind'],
    [['--context', 'prod'], '--registry HOST/PATH'],
    [['--registry', 'r.example/slm'], '--registry goes with --context'],
    [['--speed'], "Unknown option '--speed'"],
  ])('%j ends in a sentence that says what to write', (args, sentence) => {
    expect(() => parseArguments(args)).toThrow(sentence);
  });
});

describe('server-sent events', () => {
  it('come whole, however the bytes are cut, also inside of a character', async () => {
    const bytes = new TextEncoder().encode(': hello\r\ndata: {"a":"ü"}\n\ndata: [DONE]\n\n');
    async function* pieces() {
      for (const byte of bytes) yield Uint8Array.of(byte);
    }
    const data: string[] = [];
    for await (const piece of sseData(pieces())) data.push(piece);
    expect(data).toEqual(['{"a":"ü"}', '[DONE]']);
  });
});

describe('the stopwatch', () => {
  it('times steps, and says which one did not end', async () => {
    let now = 0;
    const watch = makeStopwatch(() => now);
    await watch.time('cluster', async () => {
      now += 9800;
    });
    await watch.time('chart', () => Promise.reject(new Error('no'))).catch(() => undefined);
    expect(watch.running()).toBe('chart');
    expect(watch.table()).toBe('  cluster     9.8 s\n  total       9.8 s');
  });
});

describe('a deployment', () => {
  const of = (generation: number, observedGeneration: number, status: 'True' | 'False', extra: object = {}) => ({
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment' as const,
    metadata: { name: 'chat', generation },
    spec: { modelRef: { name: 'smollm2' } },
    status: {
      observedGeneration,
      conditions: [{ type: 'Ready', status, reason: 'R', message: 'm', lastTransitionTime: '2026-01-01T00:00:00Z' }],
      ...extra,
    },
  });

  it('is ready only when Ready speaks of the spec as it is', () => {
    expect([isReady(of(2, 2, 'True')), isReady(of(2, 1, 'True')), isReady(of(2, 2, 'False'))]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('says first what blocks it', () => {
    const blockedBy = [{ reason: 'WaitingForBytes', message: '1 of 3 nodes', since: '2026-01-01T00:00:00Z' }];
    const sight = { deployment: of(1, 1, 'False', { blockedBy }), model: undefined, caches: [] };
    expect(reasonOf(sight)).toBe('WaitingForBytes: 1 of 3 nodes');
    expect(reasonOf({ ...sight, deployment: of(1, 1, 'False') })).toBe('R: m');
  });
});
