/** The same greedy tokens as onnxruntime-genai, which the layout is made for, on the same file. */

import { smollm2Onnx } from '@slm-operator/test/fixtures/onnx/smollm2';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { ChatTemplate } from '../../chat-template.ts';
import { GREEDY } from '../../scheduling/decoder.ts';
import type { Engine } from '../engine.ts';
import { loadOnnx } from './engine.ts';
import { genaiAnswers, type Reference } from './genai-reference.ts';

vi.setConfig({ testTimeout: 120_000 });

const QUESTIONS = [
  'Name the capital of France.',
  'Why is the sky blue?',
  'Write one sentence about bread.',
  'Name three animals.',
  'What is two plus two?',
  'Who wrote Hamlet?',
  'Write a haiku about the sea.',
  'Explain what a computer is to a child.',
  'Translate "good morning" into Spanish.',
  'List the days of the week.',
  'What is the largest planet?',
  'Give me a recipe for pancakes.',
  'Write a Python function that adds two numbers.',
  'What happened in 1969?',
  'Say hello in 5 words.',
  'How do bees make honey?',
  'Is 17 a prime number?',
  'Continue: Once upon a time, in a small village,',
  'Quelle est la capitale de l’Italie ? 🦙',
  'Write a short poem about autumn leaves.',
];
const MOST_TOKENS = 48;

let engine: Engine;
let prompts: string[];
let references: readonly Reference[];

beforeAll(async () => {
  const folder = await smollm2Onnx('genai');
  engine = await loadOnnx(
    { modelPath: folder, contextLength: 512, parallelRequests: 4, batchSize: 256, threads: 1, maxQueue: 64 },
    { progress: () => undefined, log: () => undefined },
  );
  const template = new ChatTemplate(engine.info.model.chatTemplate ?? '', engine.info.model);
  prompts = QUESTIONS.map((content) =>
    template
      .render([{ role: 'user', content }])
      .map(({ text }) => text)
      .join(''),
  );
  references = await genaiAnswers(folder, prompts, MOST_TOKENS);
}, 600_000);
afterAll(() => engine.close());

test('prompts have the same tokens', () => {
  expect(prompts.map((text) => engine.tokenize(text, true))).toEqual(references.map(({ prompt }) => prompt));
});

test.each(QUESTIONS.map((question, index) => [question, index] as const))('%s', async (_, index) => {
  const { prompt = [], answer = [] } = references[index] ?? {};
  const sampling = GREEDY;
  const tokens: number[] = [];
  for await (const part of engine.generate({ prompt, maxTokens: MOST_TOKENS, sampling, stop: [] }))
    if (part.type === 'end') tokens.push(...part.tokens);
  // The token that ends an answer is part of the reference and not of ours.
  expect(tokens).toEqual(answer.filter((token) => token !== engine.tokenize('<|im_end|>', true)[0]));
});
