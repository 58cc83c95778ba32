import { describe, expect, test } from 'vitest';
import { GREEDY as sampling } from '../scheduling/decoder.ts';
import {
  type Engine,
  type GeneratedLogprob,
  type GenerateRequest,
  type GenerationPart,
  GrammarError,
  UnsupportedError,
} from './engine.ts';
import { createFakeEngine, type FakeEngineOptions } from './fake.ts';

function start(engine: Engine, said: string, more: Partial<GenerateRequest> = {}) {
  const prompt = engine.tokenize(`<|user|>${said}<|end|><|assistant|>`, true);
  return engine.generate({ prompt, maxTokens: 100, sampling, stop: [], ...more });
}

async function answer(said: string, more: Partial<GenerateRequest> = {}, options: FakeEngineOptions = {}) {
  const engine = createFakeEngine(options);
  const parts: GenerationPart[] = [];
  for await (const part of start(engine, said, more)) parts.push(part);
  await engine.close();
  const texts = parts.filter((part) => part.type === 'text');
  return {
    text: texts.map((part) => part.text).join(''),
    texts,
    scores: texts.flatMap((part): readonly GeneratedLogprob[] => part.logprobs ?? []),
    end: parts.at(-1),
  };
}

describe('log probabilities', () => {
  test('come with the text that their tokens complete', async () => {
    const { texts, text, scores } = await answer('é🦙', { logprobs: 2 });
    expect(text).toBe('You said: é🦙');
    expect(texts.at(-1)).toMatchObject({ text: '🦙', logprobs: [{}, {}, {}, {}] });
    expect(scores.map((score) => score.bytes).flat()).toEqual([...Buffer.from(text)]);
    expect(scores[0]).toEqual({
      token: 89,
      text: 'Y',
      bytes: [89],
      logprob: -Math.LN2,
      top: [
        { token: 89, text: 'Y', bytes: [89], logprob: -Math.LN2 },
        { token: 90, text: 'Z', bytes: [90], logprob: -2 * Math.LN2 },
      ],
    });
  });

  test('of a stop text never leave, and of one that was held back in vain do', async () => {
    const stopped = await answer('stay', { logprobs: 0, stop: ['st', 'nowhere'] });
    expect([stopped.text, stopped.scores.map((score) => score.text).join('')]).toEqual(['You said: ', 'You said: ']);
    const held = await answer('now', { logprobs: 0, stop: ['nowhere'] });
    expect([held.text, held.scores.map((score) => score.text).join('')]).toEqual(['You said: now', 'You said: now']);
  });

  test('are not there unless asked for', async () => {
    const { texts } = await answer('a');
    for (const part of texts) expect(part).not.toHaveProperty('logprobs');
  });
});

describe('ends', () => {
  test('can be put off and ruled out', async () => {
    expect((await answer('a', { minTokens: 13 })).text).toBe('You said: a..');
    expect((await answer('a', { ignoreEos: true, maxTokens: 15 })).end).toMatchObject({
      reason: 'length',
      completionTokens: 15,
    });
  });
});

describe('what cannot be done is refused before it begins', () => {
  const refused = (request: Partial<GenerateRequest>, capabilities: FakeEngineOptions['capabilities'] = {}) => {
    const engine = createFakeEngine({ capabilities });
    try {
      start(engine, 'a', request);
    } catch (error) {
      return error;
    }
    throw new Error('not refused');
  };

  test('by the engine', () => {
    expect(refused({ logprobs: 1 }, { logprobs: false })).toMatchObject({
      name: 'UnsupportedError',
      feature: 'logprobs',
    });
    expect(refused({ grammar: { type: 'json' } }, { grammar: false })).toBeInstanceOf(UnsupportedError);
    expect(refused({}, { generate: false })).toMatchObject({ feature: 'generate' });
  });

  test('by the schema, and together with what contradicts it', () => {
    const grammar = { type: 'json_schema', schema: { type: 'string', not: {} } } as const;
    expect(refused({ grammar })).toMatchObject({ name: 'GrammarError', keyword: 'not', path: '#' });
    expect(refused({ grammar: { type: 'json' }, ignoreEos: true })).toBeInstanceOf(GrammarError);
    expect(refused({ grammar: { type: 'json' }, minTokens: 3 })).toBeInstanceOf(GrammarError);
  });

  test('embeddings too', async () => {
    const engine = createFakeEngine({ capabilities: { embed: false } });
    await expect(engine.embed(['a'])).rejects.toMatchObject({ feature: 'embed' });
  });
});

test('a grammar makes the fake answer in JSON', async () => {
  expect((await answer('a"', { grammar: { type: 'json' } })).text).toBe('{"said":"a\\""}');
});

test('tenants take turns', async () => {
  const engine = createFakeEngine({ parallelRequests: 1 });
  const order: string[] = [];
  const ask = async (tenant: string) => {
    for await (const part of start(engine, tenant, { tenant })) if (part.type === 'end') order.push(tenant);
  };
  await Promise.all(['a', 'a', 'a', 'a', 'b', 'c', 'b'].map(ask));
  expect(order).toEqual(['a', 'b', 'c', 'a', 'b', 'a', 'a']);
  await engine.close();
});

test('equal texts have equal embeddings of length one', async () => {
  const engine = createFakeEngine({ contextLength: 8 });
  const { embeddings, promptTokens } = await engine.embed(['abc', 'abd', engine.tokenize('abc', false)]);
  expect([embeddings[0], promptTokens]).toEqual([embeddings[2], 12]);
  expect(embeddings[0]).not.toEqual(embeddings[1]);
  expect(Math.hypot(...(embeddings[0] ?? []))).toBeCloseTo(1);
  await expect(engine.embed(['too long a text'])).rejects.toThrow('context holds 8');
  expect((await engine.embed(['too long a text'], { truncate: true })).promptTokens).toBe(8);
  await engine.close();
  await expect(engine.embed(['a'])).rejects.toThrow('closed');
});
