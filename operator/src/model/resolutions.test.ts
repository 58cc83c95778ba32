import type { SLMModel } from '@slm-operator/crds';
import { describe, expect, test, vi } from 'vitest';
import { silentLogger } from '../runtime/log.ts';
import { makeManualClock } from '../runtime/testing/clocks.ts';
import { SourceError, type SourceFailure } from '../sources/http-errors.ts';
import type { Resolution } from '../sources/resolve.ts';
import type { SourceSpec } from '../sources/source.ts';
import { makeResolutions } from './resolutions.ts';

const KEY = 'demo/tiny';
const answer = {
  digest: 'sha256:a',
  size: 1,
  files: [],
  sources: [],
  metadata: { format: 'GGUF' },
} as unknown as Resolution;

function model(generation = 1, secret?: string): SLMModel {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'tiny', namespace: 'demo', generation },
    spec: { source: { uri: 'hf://a/b', ...(secret === undefined ? {} : { secretRef: { name: secret } }) } },
  };
}

const failing = (more: Partial<SourceFailure> = {}) =>
  new SourceError({ reason: 'ConnectionFailed', message: 'refused', terminal: false, ...more });

function setUp(resolve: (spec: SourceSpec) => Promise<Resolution>, secrets: Record<string, object> = {}) {
  const clock = makeManualClock();
  const answers: string[] = [];
  const asked = vi.fn(resolve);
  const resolutions = makeResolutions({
    client: { find: (_type: unknown, ref: { name: string }) => Promise.resolve(secrets[ref.name]) } as never,
    hfEndpoint: 'https://hub',
    hfEndpointInsecure: false,
    log: silentLogger,
    onAnswer: (key) => answers.push(key),
    clock,
    resolve: asked,
  });
  const ask = async (of = model(), hash = 'h') => {
    const before = answers.length;
    resolutions.start(of, hash);
    await expect.poll(() => answers.length).toBe(before + 1);
    return resolutions.get(KEY);
  };
  return { resolutions, clock, answers, asked, ask };
}

describe('a source', () => {
  test('is asked in the background, and its answer kept', async () => {
    const { ask, answers } = setUp(() => Promise.resolve(answer));
    expect(await ask()).toEqual({ hash: 'h', generation: 1, running: false, failures: 0, result: answer });
    expect(answers).toEqual([KEY]);
  });

  test('is not asked twice at a time', async () => {
    const { resolutions, asked } = setUp(() => new Promise<Resolution>(() => undefined));
    resolutions.start(model(), 'h');
    resolutions.start(model(), 'h');
    await expect.poll(() => asked.mock.calls.length).toBe(1);
    expect(resolutions.get(KEY)?.running).toBe(true);
  });

  test('that fails is asked again after 1, 2, 4 … and at most 60 seconds', async () => {
    const { ask, clock } = setUp(() => Promise.reject(failing()));
    const delays: number[] = [];
    for (let attempt = 0; attempt < 9; attempt++) {
      const state = await ask();
      delays.push((state?.retryAt ?? 0) - clock.now());
      expect(state?.failures).toBe(attempt + 1);
    }
    expect(delays.map((ms) => ms / 1000)).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
  });

  test('that says when to come again is taken at its word', async () => {
    const { ask, clock } = setUp(() => Promise.reject(failing({ reason: 'SourceUnavailable', retryAfterMs: 17_000 })));
    expect((await ask())?.retryAt).toBe(clock.now() + 17_000);
  });

  test('that refuses for good is asked again after five minutes', async () => {
    const { ask, clock } = setUp(() => Promise.reject(failing({ reason: 'NotFound', terminal: true })));
    expect((await ask())?.retryAt).toBe(clock.now() + 300_000);
  });

  test('of which something unforeseen is thrown counts as unavailable', async () => {
    const { ask } = setUp(() => Promise.reject(new TypeError('boom')));
    expect((await ask())?.failure).toMatchObject({ reason: 'SourceUnavailable', terminal: false });
  });

  test('of an earlier spec is given up when the spec changes', async () => {
    const signals: (AbortSignal | undefined)[] = [];
    const { resolutions, asked, answers } = setUp(() => new Promise<Resolution>(() => undefined));
    resolutions.start(model(), 'old');
    await expect.poll(() => asked.mock.calls.length).toBe(1);
    resolutions.start(model(2), 'new');
    await expect.poll(() => asked.mock.calls.length).toBe(2);
    for (const call of asked.mock.calls as unknown as [unknown, unknown, { signal?: AbortSignal }][]) {
      signals.push(call[2].signal);
    }
    expect(signals.map((signal) => signal?.aborted)).toEqual([true, false]);
    expect(resolutions.get(KEY)?.hash).toBe('new');
    expect(answers).toEqual([]);
  });

  test('four are asked at a time, and a place is free again after an answer', async () => {
    const ends: (() => void)[] = [];
    const { resolutions, asked } = setUp(() => new Promise((resolve) => ends.push(() => resolve(answer))));
    for (let index = 0; index < 6; index++) {
      const named = { ...model(), metadata: { name: `m${index}`, namespace: 'demo', generation: 1 } };
      resolutions.start(named, 'h');
    }
    await expect.poll(() => asked.mock.calls.length).toBe(4);
    ends[0]?.();
    await expect.poll(() => asked.mock.calls.length).toBe(5);
  });
});

describe('a model with variants', () => {
  const withVariants = (generation = 1, uri = 'hf://a/fp16'): SLMModel => {
    const of = model(generation);
    return { ...of, spec: { ...of.spec, variants: [{ name: 'fp16', accelerators: ['nvidia'], uri }] } };
  };
  const uris = (calls: readonly (readonly [SourceSpec, ...unknown[]])[]) => calls.map(([{ uri }]) => uri);

  test('is resolved when the source and all variants are', async () => {
    const { ask, asked } = setUp(({ uri }) => Promise.resolve({ ...answer, digest: uri }));
    const state = await ask(withVariants());
    expect(uris(asked.mock.calls)).toEqual(['hf://a/b', 'hf://a/fp16']);
    expect(state?.result).toMatchObject({
      digest: 'hf://a/b',
      variants: [{ name: 'fp16', accelerators: ['nvidia'], digest: 'hf://a/fp16' }],
    });
  });

  test('names the variant that fails, and asks for that one alone the next time', async () => {
    let broken = true;
    const { ask, asked } = setUp(({ uri }) =>
      broken && uri === 'hf://a/fp16' ? Promise.reject(failing()) : Promise.resolve(answer),
    );
    expect((await ask(withVariants()))?.failure?.message).toBe('variant fp16: refused');
    broken = false;
    expect((await ask(withVariants()))?.result?.variants).toHaveLength(1);
    expect(uris(asked.mock.calls)).toEqual(['hf://a/b', 'hf://a/fp16', 'hf://a/fp16']);
  });

  test('whose variant is corrected is not asked for its source again', async () => {
    const { ask, asked } = setUp(({ uri }) =>
      uri === 'hf://a/typo' ? Promise.reject(failing({ terminal: true })) : Promise.resolve(answer),
    );
    await ask(withVariants(1, 'hf://a/typo'), 'typo');
    await ask(withVariants(2), 'right');
    expect(uris(asked.mock.calls)).toEqual(['hf://a/b', 'hf://a/typo', 'hf://a/fp16']);
  });
});

describe('a Secret', () => {
  const secret = (version: string) => ({
    metadata: { resourceVersion: version },
    data: { token: Buffer.from('t').toString('base64') },
  });

  test('that is missing is looked for every ten seconds, without asking the source', async () => {
    const { ask, asked, clock } = setUp(() => Promise.resolve(answer));
    const state = await ask(model(1, 'hub'));
    expect(state?.failure?.reason).toBe('SecretNotFound');
    expect(state?.retryAt).toBe(clock.now() + 10_000);
    expect(asked).not.toHaveBeenCalled();
  });

  test('that is refused is sent again only after it changed, or five minutes', async () => {
    const secrets = { hub: secret('1') };
    const refusal = failing({ reason: 'Unauthorized', terminal: true });
    const { ask, asked, clock } = setUp(() => Promise.reject(refusal), secrets);
    await ask(model(1, 'hub'));
    clock.advance(10_000);
    expect((await ask(model(1, 'hub')))?.failure?.reason).toBe('Unauthorized');
    expect(asked).toHaveBeenCalledTimes(1);
    secrets.hub = secret('2');
    await ask(model(1, 'hub'));
    expect(asked).toHaveBeenCalledTimes(2);
    clock.advance(300_000);
    await ask(model(1, 'hub'));
    expect(asked).toHaveBeenCalledTimes(3);
  });
});
