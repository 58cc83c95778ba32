/** What tests with the real library and a real model share. Not part of the image. */
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { ChatTemplate } from '../../chat-template.ts';
import type { EndPart, Engine, GenerateRequest, SamplingParams } from '../engine.ts';
import { type LlamaCppOptions, loadLlamaCpp } from './engine.ts';

export const greedy: SamplingParams = {
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

/** The 135M model in a small context, on one thread: two that spin would starve each other when tests share the cores. */
export async function loadSmolLm2(options: Partial<LlamaCppOptions> = {}): Promise<Engine> {
  const { path } = await smollm2();
  return loadLlamaCpp(
    {
      file: path,
      contextLength: 256,
      parallelRequests: 2,
      batchSize: 128,
      threads: 1,
      flashAttention: 'Auto',
      kvCacheType: 'F16',
      maxQueue: 64,
      ...options,
    },
    { progress: () => undefined, log: () => undefined },
  );
}

/** Tokens of a question, as the model's template writes it. */
export function question(engine: Engine, content: string): number[] {
  const template = new ChatTemplate(engine.info.model.chatTemplate ?? '', engine.info.model);
  return template
    .render([
      { role: 'system', content: 'You are a helpful assistant.' },
      { role: 'user', content },
    ])
    .flatMap(({ text, special }) => engine.tokenize(text, special));
}

export async function answerTo(
  engine: Engine,
  prompt: readonly number[],
  more: Partial<GenerateRequest> = {},
): Promise<{ text: string; end: EndPart }> {
  let text = '';
  for await (const part of engine.generate({ prompt, maxTokens: 24, sampling: greedy, stop: [], ...more })) {
    if (part.type === 'end') return { text, end: part };
    text += part.text;
  }
  throw new Error('a generation ended without its last part');
}
