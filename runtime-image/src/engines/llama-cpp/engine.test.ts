/** With the real library and a real model of 135 million parameters; the model is loaded once for all tests. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { ChatTemplate } from '../../chat-template.ts';
import { warmUp } from '../../warm-up.ts';
import type { EndPart, Engine, GenerateRequest, SamplingParams } from '../engine.ts';
import { loadLlamaCpp } from './engine.ts';

vi.setConfig({ testTimeout: 60_000 });

const SLOTS = 4;
const CONTEXT = 512;
let engine: Engine;
let template: ChatTemplate;
const progress: number[] = [];

beforeAll(async () => {
  const { path } = await smollm2();
  engine = await loadLlamaCpp(
    {
      file: path,
      contextLength: CONTEXT,
      parallelRequests: SLOTS,
      batchSize: 128,
      // One: two threads that spin would starve each other when the tests share the machine's cores.
      threads: 1,
      flashAttention: 'Auto',
      kvCacheType: 'F16',
      maxQueue: 64,
    },
    { progress: (fraction) => progress.push(fraction), log: () => undefined },
  );
  template = new ChatTemplate(engine.info.model.chatTemplate ?? '', {
    ...engine.info.model,
    controlTokens: () => engine.controlTokens,
  });
}, 300_000);

const greedy: SamplingParams = {
  temperature: 0,
  topK: 40,
  topP: 1,
  minP: 0,
  seed: 1,
  repeatPenalty: 1,
  repeatLastN: 64,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
};

const chat = (content: string) =>
  template
    .render([
      { role: 'system', content: 'You are a helpful assistant.' },
      { role: 'user', content },
    ])
    .flatMap(({ text, special }) => engine.tokenize(text, special));

async function answer(
  prompt: readonly number[],
  more: Partial<GenerateRequest> = {},
): Promise<{ text: string; end: EndPart }> {
  let text = '';
  const request = { prompt, maxTokens: 24, sampling: greedy, stop: [], ...more };
  for await (const part of engine.generate(request)) {
    if (part.type === 'end') return { text, end: part };
    text += part.text;
  }
  throw new Error('no end');
}

const QUESTIONS = [
  'What is the capital of France?',
  'Why is the sky blue?',
  'Write one sentence about bread.',
  'Name three animals.',
  'What is two plus two?',
  'Who wrote Hamlet?',
];

test('the file says what it is', () => {
  const { chatTemplate, ...model } = engine.info.model;
  expect({ ...engine.info, model }).toMatchInlineSnapshot(`
    {
      "backend": "node-llama-cpp 3.22.1",
      "batchSize": 128,
      "capabilities": {
        "embed": true,
        "generate": true,
        "grammar": true,
        "logprobs": true,
      },
      "contextLength": 512,
      "device": "cpu",
      "engine": "llama-cpp",
      "model": {
        "architecture": "llama",
        "bosToken": "<|im_start|>",
        "embeddingLength": 576,
        "eosToken": "<|im_end|>",
        "format": "gguf",
        "parameters": 134515008,
        "quantization": "Q4_1",
        "size": 98362432,
        "trainedContextLength": 8192,
        "vocabularySize": 49152,
      },
      "parallelRequests": 4,
      "threads": 1,
    }
  `);
  expect(chatTemplate).toContain('<|im_start|>');
  expect(progress.at(-1)).toBe(1);
});

test('it knows the capital of France', async () => {
  const { text, end } = await answer(chat(QUESTIONS[0] ?? ''));
  expect(text).toBe('The capital of France is Paris.');
  expect(end).toMatchObject({ reason: 'stop', promptTokens: 27, completionTokens: 7 });
});

test('the warm-up measures tokens a second', async () => {
  expect(await warmUp(engine)).toBeGreaterThan(0);
});

describe('tokens', () => {
  test('special ones are told from their text', () => {
    expect([engine.tokenize('<|im_end|>', true).length, engine.tokenize('<|im_end|>', false).length > 1]).toEqual([
      1,
      true,
    ]);
  });

  test('characters of several tokens come whole', async () => {
    // A model of this size does not speak in llamas of its own accord: the bias puts the bytes into its mouth.
    const llama = engine.tokenize('🦙', false);
    expect(llama.length).toBeGreaterThan(1);
    const parts: string[] = [];
    const biased = { ...greedy, logitBias: llama.map((token) => [token, 100] as const) };
    for await (const part of engine.generate({ prompt: chat('🦙'), maxTokens: 12, sampling: biased, stop: [] }))
      if (part.type === 'text') parts.push(part.text);
    for (const part of parts) expect(part.isWellFormed()).toBe(true);
  });
});

describe('many at once', () => {
  test('each gets the tokens that it gets alone, more requests than slots, prefixes shared', async () => {
    const alone: (readonly number[])[] = [];
    for (const question of QUESTIONS) alone.push((await answer(chat(question))).end.tokens);
    const together = await Promise.all(QUESTIONS.map((question) => answer(chat(question))));
    expect(together.map((one) => one.end.tokens)).toEqual(alone);
    expect(engine.stats).toMatchObject({ queued: 0, slotsBusy: 0, slotsTotal: SLOTS });
  });

  test('a prefix is computed once and copied between slots', async () => {
    const story = `${'The quick brown fox jumps over the lazy dog. '.repeat(12)}What does the fox do?`;
    const first = await answer(chat(story));
    const others = await Promise.all([1, 2, 3].map(() => answer(chat(story))));
    for (const other of others) {
      expect(other.end.tokens).toEqual(first.end.tokens);
      expect(other.end.cachedTokens).toBe(other.end.promptTokens - 1);
    }
  });
});

describe('sampling', () => {
  const hot = { ...greedy, temperature: 1.2, topK: 0 };
  const story = () => chat('Tell me a story.');

  test('the same seed gives the same answer, alone and in company', async () => {
    const first = await answer(story(), { sampling: { ...hot, seed: 7 } });
    const [again] = await Promise.all([
      answer(story(), { sampling: { ...hot, seed: 7 } }),
      answer(chat('Name a colour.'), { sampling: { ...hot, seed: 8 } }),
    ]);
    expect(again?.text).toBe(first.text);
    const other = await answer(story(), { sampling: { ...hot, seed: 9 } });
    expect(other.text).not.toBe(first.text);
  });

  test('penalties and biases change what is said', async () => {
    const plain = await answer(story());
    const penalised = await answer(story(), { sampling: { ...greedy, repeatPenalty: 2, presencePenalty: 1 } });
    expect(penalised.text).not.toBe(plain.text);
    const first = plain.end.tokens[0] ?? 0;
    const biased = await answer(story(), { sampling: { ...greedy, logitBias: [[first, -100]] } });
    expect(biased.end.tokens[0]).not.toBe(first);
  });

  test('settings out of all proportion do no harm', async () => {
    const wild = { ...hot, topK: 4_000_000_000, repeatLastN: 2_000_000_000, repeatPenalty: 1.1, seed: 4_294_967_294 };
    expect((await answer(story(), { sampling: wild, maxTokens: 2 })).end.completionTokens).toBe(2);
    const cold = { ...greedy, temperature: 1e-40, topP: 0, minP: 1, repeatPenalty: 0.01, frequencyPenalty: -2 };
    expect((await answer(story(), { sampling: cold, maxTokens: 2 })).end.completionTokens).toBe(2);
  });
});

describe('ends', () => {
  test('a stop text ends the answer and does not appear', async () => {
    const { text, end } = await answer(chat(QUESTIONS[0] ?? ''), { stop: [' of France', 'Paris'] });
    expect([text, end.reason]).toEqual(['The capital', 'stop']);
  });

  test('a full context ends it with length', async () => {
    const prompt = engine.tokenize('one two three four five six seven eight nine ten '.repeat(50), false).slice(0, 500);
    const { end } = await answer(prompt, {
      maxTokens: Number.POSITIVE_INFINITY,
      sampling: { ...greedy, logitBias: [[2, -100]] },
    });
    expect(end).toMatchObject({ reason: 'length', completionTokens: CONTEXT - 500 + 1 });
  });

  test('a prompt that does not fit is refused before anything is computed', () => {
    expect(() => engine.generate({ prompt: Array(CONTEXT).fill(1), maxTokens: 1, sampling: greedy, stop: [] })).toThrow(
      `the prompt has ${CONTEXT} tokens`,
    );
  });

  test('an abort during the prompt frees the slot before the prompt is computed', async () => {
    const gone = new AbortController();
    const prompt = engine
      .tokenize('a b c d e f g h i j k l m n o p q r s t u v w x y z '.repeat(20), false)
      .slice(0, 505);
    const running = answer(prompt, { signal: gone.signal });
    await expect.poll(() => engine.stats.slotsBusy, { interval: 1 }).toBe(1);
    gone.abort();
    const { end } = await running;
    expect(end).toMatchObject({ reason: 'aborted', completionTokens: 0 });
    expect(engine.stats.slotsBusy).toBe(0);
    // What was computed until then was less than all, and is good for the next one.
    const next = await answer(prompt, { maxTokens: 1 });
    expect(next.end.cachedTokens).toBeLessThan(504);
  });

  test('a reader that leaves ends the generation', async () => {
    for await (const part of engine.generate({
      prompt: chat('Tell me a story.'),
      maxTokens: 400,
      sampling: greedy,
      stop: [],
    }))
      if (part.type === 'text') break;
    await expect.poll(() => engine.stats.slotsBusy).toBe(0);
  });
});

test('closing comes to its end, also after the garbage collector has been there', async () => {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  await engine.close();
  expect(() => engine.generate({ prompt: [1], maxTokens: 1, sampling: greedy, stop: [] })).toThrow(
    'the engine is closed',
  );
});
