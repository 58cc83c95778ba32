/**
 * The way from a checked request to the parts of an answer, the same for every API: prompt tokens, the abort when the
 * client hangs up, metrics, and writing a stream. Knows no API's format.
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.ts';
import type { ChatMessage } from '../chat-template.ts';
import type { EndPart, GenerateRequest, Generation, SamplingParams, Token } from '../engines/engine.ts';
import type { LoadedModel } from '../lifecycle.ts';
import type { Metrics } from '../plugins/metrics.ts';

/** llama.cpp takes the largest 32-bit number as "any seed". */
const SEEDS = 0xffff_ffff;

/** A seed as the sampler wants it; without one, or for a negative one, any. */
export function seedOf(seed: number | undefined): number {
  if (seed === undefined || seed < 0) return randomInt(SEEDS);
  return Math.trunc(seed) % SEEDS;
}

/** @throws ApiError (400) when the model has no template, or its template refuses the messages */
export function chatPrompt(model: LoadedModel, messages: readonly ChatMessage[]): Token[] {
  if (!model.template)
    throw new ApiError(
      400,
      'this model has no chat template: use /api/generate or /v1/completions with the whole prompt',
      { code: 'no_chat_template' },
    );
  return textPrompt(model, model.template.render(messages));
}

/** Tokens of a text that is a prompt as it stands; the token that begins a text appears once. */
export function textPrompt(model: LoadedModel, text: string): Token[] {
  const { engine } = model;
  const tokens = engine.tokenize(text, true);
  const begun = engine.beginning.every((token, index) => tokens[index] === token);
  const prompt = begun ? tokens : [...engine.beginning, ...tokens];
  if (prompt.length === 0) throw new ApiError(400, 'the prompt is empty: write something to answer');
  return prompt;
}

export interface AnswerRequest {
  readonly prompt: readonly Token[];
  readonly maxTokens: number;
  readonly sampling: SamplingParams;
  readonly stop: readonly string[];
}

/**
 * Starts a generation that ends when the client hangs up.
 * @throws what Engine.generate throws
 */
export function startAnswer(
  model: LoadedModel,
  metrics: Metrics,
  reply: FastifyReply,
  request: AnswerRequest,
): Generation {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableEnded) gone.abort();
  });
  const full: GenerateRequest = { ...request, signal: gone.signal };
  return measured(model.engine.generate(full), metrics);
}

async function* measured(generation: Generation, metrics: Metrics): Generation {
  for await (const part of generation) {
    if (part.type === 'end') {
      metrics.generationEnded(part);
      // Nobody reads this when the client is gone. Otherwise the server ended it, and half an answer is none.
      if (part.reason === 'aborted') throw new ApiError(503, 'the server shut down before the answer was complete');
    }
    yield part;
  }
}

/** Waits for the whole answer. */
export async function wholeAnswer(generation: Generation): Promise<{ text: string; end: EndPart }> {
  let text = '';
  for await (const part of generation) {
    if (part.type === 'end') return { text, end: part };
    text += part.text;
  }
  throw new Error('a generation ended without its last part');
}

/** How an API writes a stream down; each text is sent as it is. */
export interface StreamFormat {
  readonly contentType: string;
  readonly text: (text: string) => string;
  readonly end: (end: EndPart) => string;
  /** For an error after the first byte, when the status can no longer tell. */
  readonly error: (thrown: unknown) => string;
}

/**
 * Writes a stream. Headers leave with the first part, so whatever fails before still gets its own status.
 * @param before sent ahead of the first part
 */
export async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  generation: Generation,
  format: StreamFormat,
  before = '',
): Promise<FastifyReply> {
  const parts = generation[Symbol.asyncIterator]();
  let current = await parts.next();
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': format.contentType,
    'cache-control': 'no-cache',
    // Proxies of the nginx family would otherwise collect the stream and send it in one piece.
    'x-accel-buffering': 'no',
  });
  try {
    let unsent = before;
    while (!current.done) {
      const part = current.value;
      unsent += part.type === 'text' ? format.text(part.text) : format.end(part);
      if (raw.destroyed) break;
      const roomy = raw.write(unsent);
      unsent = '';
      if (!roomy) await drained(raw);
      current = await parts.next();
    }
  } catch (error) {
    if (!(error instanceof ApiError)) request.log.error({ err: error }, 'stream failed');
    if (!raw.destroyed) raw.write(format.error(error));
  } finally {
    await parts.return?.();
    raw.end();
  }
  return reply;
}

/** Waits until a slow client has read, or is gone. */
async function drained(raw: NodeJS.WritableStream & { destroyed?: boolean }): Promise<void> {
  if (raw.destroyed) return;
  const settled = new AbortController();
  try {
    await Promise.race([
      once(raw, 'drain', { signal: settled.signal }),
      once(raw, 'close', { signal: settled.signal }),
    ]);
  } finally {
    settled.abort();
  }
}
