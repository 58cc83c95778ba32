/**
 * The way from a checked request to the parts of an answer, the same for every API: prompt tokens, the abort when the
 * client hangs up, metrics, and writing a stream. Knows no API's format.
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.ts';
import type { ChatMessage, PromptSegment, RenderOptions } from '../chat-template.ts';
import type { EndPart, GeneratedLogprob, GenerateRequest, Generation, TextPart, Token } from '../engines/engine.ts';
import type { LoadedModel } from '../lifecycle.ts';
import { AnswerMeter } from '../plugins/answer-meter.ts';
import { errorKind, toApiError } from '../plugins/errors.ts';
import { expectNothing, expectReading, limitTokens } from '../plugins/limits.ts';
import { type Metrics, operationOf } from '../plugins/metrics.ts';
import { AnswerReader, type ReaderOptions, type ToolCall } from './tool-calls.ts';

/** llama.cpp takes the largest 32-bit number as "any seed". */
const SEEDS = 0xffff_ffff;

/** A seed as the sampler wants it; without one, or for a negative one, any. */
export function seedOf(seed: number | undefined): number {
  if (seed === undefined || seed < 0) return randomInt(SEEDS);
  return Math.trunc(seed) % SEEDS;
}

/** @throws ApiError (400) when the model has no template, or its template refuses the messages */
export function chatSegments(
  model: LoadedModel,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
): PromptSegment[] {
  if (!model.template)
    throw new ApiError(
      400,
      'this model has no chat template: use /api/generate or /v1/completions with the whole prompt',
      { code: 'no_chat_template' },
    );
  return model.template.render(messages, options);
}

/** Tokens of messages. @throws as chatSegments */
export function chatPrompt(model: LoadedModel, messages: readonly ChatMessage[], options: RenderOptions = {}): Token[] {
  return textPrompt(model, chatSegments(model, messages, options));
}

/** Tokens of a text that is a prompt as it stands; the token that begins a text appears once. */
export function textPrompt(model: LoadedModel, text: string | readonly PromptSegment[]): Token[] {
  const { engine } = model;
  const segments = typeof text === 'string' ? [{ text, special: true }] : text;
  const tokens = segments.flatMap((segment) => engine.tokenize(segment.text, segment.special));
  const begun = engine.beginning.every((token, index) => tokens[index] === token);
  const prompt = begun ? tokens : [...engine.beginning, ...tokens];
  if (prompt.length === 0) throw new ApiError(400, 'the prompt is empty: write something to answer');
  return prompt;
}

export type AnswerRequest = Omit<GenerateRequest, 'signal' | 'tenant'>;

/** A piece of an answer, told apart: text, thoughts, calls of tools. */
export type AnswerPart =
  | TextPart
  | { readonly type: 'thinking'; readonly text: string }
  | { readonly type: 'call'; readonly call: ToolCall; readonly index: number }
  | { readonly type: 'end'; readonly end: EndPart; readonly calls: number };

/** A part of one of several answers. */
export interface ChoicePart {
  readonly choice: number;
  readonly part: AnswerPart;
}

/**
 * Starts answers that end together: when the client hangs up, or when one of them fails.
 * @param reading what to look for in the text; undefined leaves it as it is
 * @throws what Engine.generate throws
 */
export function startAnswers(
  model: LoadedModel,
  metrics: Metrics,
  reply: FastifyReply,
  requests: readonly AnswerRequest[],
  reading?: ReaderOptions,
): AsyncIterable<AnswerPart>[] {
  const { facts } = reply.request;
  const { limits } = reply.server;
  const gone = goneOf(reply);
  const tenant = facts.tenant === undefined ? {} : { tenant: facts.tenant };
  const { slotsTotal, maxQueue } = model.engine.stats;
  // Waiting would not help, so this is no 429.
  if (requests.length > slotsTotal + maxQueue)
    throw new ApiError(
      400,
      `${requests.length} answers in one request, and this server takes ${slotsTotal + maxQueue} at a time: ask for fewer`,
      { param: 'n' },
    );
  const labels = { model: model.name, operation: operationOf(reply.request.routeOptions.url) };
  try {
    return requests.map((request) =>
      readParts(
        model.engine.generate({
          ...request,
          ...tenant,
          maxTokens: limitTokens(request.maxTokens, limits),
          signal: gone.signal,
        }),
        reading,
        gone,
        new AnswerMeter(metrics, facts, labels, request.prompt.length),
      ),
    );
  } catch (error) {
    gone.abort();
    throw error;
  }
}

/** One answer. */
export function startAnswer(
  model: LoadedModel,
  metrics: Metrics,
  reply: FastifyReply,
  request: AnswerRequest,
  reading?: ReaderOptions,
): AsyncIterable<AnswerPart> {
  const [answer] = startAnswers(model, metrics, reply, [request], reading);
  if (!answer) throw new Error('no answer was started');
  return answer;
}

async function* readParts(
  generation: Generation,
  reading: ReaderOptions | undefined,
  gone: AbortController,
  meter: AnswerMeter,
): AsyncGenerator<AnswerPart, void> {
  const reader = reading === undefined ? undefined : new AnswerReader(reading);
  let calls = 0;
  let reasoningTokens = 0;
  /** Of tokens whose text is held back. */
  let scores: GeneratedLogprob[] | undefined;
  try {
    for await (const part of generation) {
      if (part.type === 'text') {
        meter.text(part);
        if (!reader) {
          yield part;
          continue;
        }
        if (part.logprobs) (scores ??= []).push(...part.logprobs);
      } else {
        meter.ended(part);
        // Nobody reads this when the client is gone. Otherwise the server ended it, and half an answer is none.
        if (part.reason === 'aborted')
          throw gone.signal.reason instanceof ApiError
            ? gone.signal.reason
            : new ApiError(503, 'the server shut down before the answer was complete');
      }
      if (reader) {
        const thought = reader.thinks;
        const read = part.type === 'text' ? reader.push(part.text) : reader.end();
        // The tags of a thought are part of it.
        if (part.type === 'text' && (thought || reader.thinks)) reasoningTokens += part.tokens ?? 0;
        if (read.thinking !== '') yield { type: 'thinking', text: read.thinking };
        if (read.text !== '' || (part.type === 'end' && scores)) {
          yield { type: 'text', text: read.text, ...(scores ? { logprobs: scores } : {}) };
          scores = undefined;
        }
        for (const call of read.calls) yield { type: 'call', call, index: calls++ };
      }
      if (part.type === 'end') yield { type: 'end', end: { ...part, reasoningTokens }, calls };
    }
  } catch (error) {
    gone.abort();
    throw error;
  } finally {
    meter.left();
  }
}

export interface WholeAnswer {
  readonly text: string;
  readonly thinking: string;
  readonly calls: readonly ToolCall[];
  readonly logprobs: readonly GeneratedLogprob[];
  readonly end: EndPart;
}

/** Waits for the whole answer. */
export async function wholeAnswer(parts: AsyncIterable<AnswerPart>): Promise<WholeAnswer> {
  let text = '';
  let thinking = '';
  const calls: ToolCall[] = [];
  const logprobs: GeneratedLogprob[] = [];
  for await (const part of parts)
    switch (part.type) {
      case 'text':
        text += part.text;
        if (part.logprobs) logprobs.push(...part.logprobs);
        break;
      case 'thinking':
        thinking += part.text;
        break;
      case 'call':
        calls.push(part.call);
        break;
      case 'end':
        return { text, thinking, calls, logprobs, end: part.end };
    }
  throw new Error('a generation ended without its last part');
}

/** The parts of several answers in the order in which they come. */
export async function* merged(answers: readonly AsyncIterable<AnswerPart>[]): AsyncGenerator<ChoicePart, void> {
  const iterators = answers.map((answer) => answer[Symbol.asyncIterator]());
  const next = async (iterator: AsyncIterator<AnswerPart>, choice: number) => ({
    choice,
    iterator,
    result: await iterator.next(),
  });
  const waiting = new Map(iterators.map((iterator, choice) => [choice, next(iterator, choice)]));
  while (waiting.size > 0) {
    const { choice, iterator, result } = await Promise.race(waiting.values());
    if (result.done === true) waiting.delete(choice);
    else {
      yield { choice, part: result.value };
      waiting.set(choice, next(iterator, choice));
    }
  }
}

/** How an API writes a stream down. */
export interface StreamFormat<Part> {
  readonly contentType: string;
  /** What a part becomes; an empty text sends nothing. */
  readonly part: (part: Part) => string;
  /** For an error after the first byte, when the status can no longer tell. */
  readonly error: (thrown: unknown) => string;
}

/**
 * Writes a stream. Headers leave with the first part, so whatever fails before still gets its own status.
 * @param before sent ahead of the first part
 */
export async function sendStream<Part>(
  request: FastifyRequest,
  reply: FastifyReply,
  stream: AsyncIterable<Part>,
  format: StreamFormat<Part>,
  before = '',
): Promise<FastifyReply> {
  const parts = stream[Symbol.asyncIterator]();
  let current = await parts.next();
  reply.hijack();
  const { raw } = reply;
  const { limits } = reply.server;
  raw.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': format.contentType,
    'cache-control': 'no-cache',
    // Proxies of the nginx family would otherwise collect the stream and send it in one piece.
    'x-accel-buffering': 'no',
  });
  try {
    let unsent = before;
    while (current.done !== true) {
      unsent += format.part(current.value);
      if (raw.destroyed) break;
      if (unsent !== '') {
        const roomy = raw.write(unsent);
        unsent = '';
        if (!roomy) {
          expectReading(raw, limits);
          await drained(raw);
          expectNothing(raw);
        }
      }
      current = await parts.next();
    }
  } catch (error) {
    const known = toApiError(error);
    reply.server.metrics.error(errorKind(known));
    if (!(error instanceof ApiError)) request.log.error({ err: error }, 'stream failed');
    if (!raw.destroyed) {
      // Nobody misses the end of a stream that he left.
      if (known.status >= 500) reply.server.metrics.streamBroken(request.routeOptions.url ?? 'unknown');
      raw.write(format.error(error));
    }
  } finally {
    await parts.return?.();
    expectReading(raw, limits, true);
    raw.end();
  }
  return reply;
}

/** @returns a signal that fires when the client hangs up, or its time is over */
export function hangUp(reply: FastifyReply): AbortSignal {
  return goneOf(reply).signal;
}

function goneOf(reply: FastifyReply): AbortController {
  const gone = new AbortController();
  const { deadline } = reply.request.facts;
  const late = () => gone.abort(deadline?.reason);
  if (deadline?.aborted === true) late();
  deadline?.addEventListener('abort', late, { once: true });
  reply.raw.once('close', () => {
    if (!reply.raw.writableEnded) gone.abort();
  });
  return gone;
}

/** Waits until a slow client has read, or is gone. */
export async function drained(raw: NodeJS.WritableStream & { destroyed?: boolean }): Promise<void> {
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
