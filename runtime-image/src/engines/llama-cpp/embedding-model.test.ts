/** A model that embeds and does not generate, with the real library. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { GREEDY } from '../../scheduling/decoder.ts';
import { warmUp } from '../../warm-up.ts';
import { type Engine, PromptTooLongError, UnsupportedError } from '../engine.ts';
import { loadLlamaCpp } from './engine.ts';
import { makeTinyBert, TINY_BERT_CONTEXT } from './tiny-bert.ts';

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
let engine: Engine;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-bert-'));
  const file = path.join(folder, 'tiny-bert.gguf');
  await writeFile(file, makeTinyBert());
  engine = await loadLlamaCpp(
    {
      file,
      contextLength: undefined,
      parallelRequests: 4,
      batchSize: 64,
      threads: 2,
      flashAttention: 'Auto',
      kvCacheType: 'F16',
      maxQueue: 8,
    },
    { progress: () => undefined, log: () => undefined },
  );
}, 60_000);
afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true, force: true });
});

test('it says that it only embeds, and refuses to write', () => {
  expect(engine.info.capabilities).toMatchObject({ generate: false, embed: true });
  expect(engine.info.model).toMatchObject({ architecture: 'bert', embeddingLength: 32 });
  const sampling = GREEDY;
  expect(() => engine.generate({ prompt: [5], maxTokens: 1, sampling, stop: [] })).toThrow(UnsupportedError);
});

test('it warms up without writing', async () => {
  expect(await warmUp(engine)).toBe(0);
});

test('words in their order decide on the vector; each text is counted with what begins and ends it', async () => {
  const { embeddings, promptTokens } = await engine.embed([
    'the cat sleeps',
    'sleeps the cat',
    'the cat sleeps',
    'seven',
  ]);
  expect(promptTokens).toBe(5 + 5 + 5 + 3);
  for (const one of embeddings) expect(Math.hypot(...one)).toBeCloseTo(1, 5);
  expect(embeddings[2]).toEqual(embeddings[0]);
  expect(embeddings[1]).not.toEqual(embeddings[0]);
  const many = await Promise.all(['seven', 'a kitten naps'].map((text) => engine.embed([text])));
  expect(many[0]?.embeddings[0]).toEqual(embeddings[3]);
});

test('many texts at once get the vectors that they get alone, in their order', async () => {
  const words = ['the', 'cat', 'sleeps', 'a', 'kitten', 'naps', 'number', 'seven'];
  const texts = Array.from({ length: 30 }, (_, index) =>
    Array.from({ length: 1 + (index % 7) }, (_, place) => words[(index * 3 + place * 5) % words.length]).join(' '),
  );
  const [together, ...alone] = await Promise.all([
    engine.embed(texts),
    ...texts.slice(0, 5).map((text) => engine.embed([text])),
  ]);
  expect(together.embeddings).toHaveLength(texts.length);
  for (const [index, text] of texts.entries()) {
    const { embeddings } = await engine.embed([text]);
    expect(together.embeddings[index]).toEqual(embeddings[0]);
    if (alone[index]) expect(alone[index].embeddings).toEqual(embeddings);
  }
});

test('what is longer than the model can see is refused or cut, and the cut text keeps its end', async () => {
  const long = 'cat '.repeat(TINY_BERT_CONTEXT);
  await expect(engine.embed([long])).rejects.toThrow(PromptTooLongError);
  const cut = await engine.embed([long], { truncate: true });
  expect(cut.promptTokens).toBe(TINY_BERT_CONTEXT - 1);
  const same = await engine.embed(['cat '.repeat(TINY_BERT_CONTEXT - 3)]);
  expect(same.embeddings[0]).toEqual(cut.embeddings[0]);
});
