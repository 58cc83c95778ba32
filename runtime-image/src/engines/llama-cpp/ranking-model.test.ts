/** A model that ranks, with the real library. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { warmUp } from '../../warm-up.ts';
import { type Engine, PromptTooLongError, UnsupportedError } from '../engine.ts';
import { loadSmolLm2 } from './testing.ts';
import { makeTinyBert, TINY_BERT_CONTEXT } from './tiny-bert.ts';

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
let engine: Engine;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-rank-'));
  const file = path.join(folder, 'tiny-rank.gguf');
  await writeFile(file, makeTinyBert({ ranks: true }));
  engine = await loadSmolLm2({ file, contextLength: undefined, batchSize: 64, threads: 2, maxQueue: 8 });
}, 60_000);
afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true, force: true });
});

test('it ranks, and neither embeds nor writes', async () => {
  expect(engine.info.capabilities).toMatchObject({ rank: true, embed: false, generate: false });
  await expect(engine.embed(['the cat'])).rejects.toThrow(UnsupportedError);
  expect(await warmUp(engine)).toBe(0);
});

test('each document has a score of its own, alone and among others, whatever its place', async () => {
  const documents = ['the cat sleeps', 'seven', 'a kitten naps', 'number seven', 'the cat sleeps'];
  const { scores, promptTokens } = await engine.rank('the kitten', documents);
  // Two words of the query, and what stands around and between them.
  expect(promptTokens).toBe(5 * 5 + 3 + 1 + 3 + 2 + 3);
  for (const score of scores) expect(score > 0 && score < 1).toBe(true);
  expect(new Set(scores).size).toBe(4);
  expect(scores[4]).toBe(scores[0]);
  for (const [index, document] of documents.entries())
    expect((await engine.rank('the kitten', [document])).scores).toEqual([scores[index]]);
  expect((await engine.rank('seven', documents)).scores).not.toEqual(scores);
});

test('of a long document the best part counts; a long query is refused', async () => {
  const room = TINY_BERT_CONTEXT - 1 - 5;
  const words = Array.from({ length: room * 2 }, (_, place) => (place < room ? 'cat' : 'seven'));
  const part = (from: number) => words.slice(from, from + room).join(' ');
  const { scores } = await engine.rank('the kitten', [words.join(' '), part(0), part(room)]);
  expect(scores[0]).toBe(Math.max(scores[1] ?? 0, scores[2] ?? 0));
  await expect(engine.rank('cat '.repeat(TINY_BERT_CONTEXT), ['seven'])).rejects.toThrow(PromptTooLongError);
});
