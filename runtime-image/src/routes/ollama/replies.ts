/**
 * How Ollama's API writes answers down. Pure builders; durations are nanoseconds there.
 */
import type { EndPart, GeneratedLogprob, TokenLogprob } from '../../engines/engine.ts';
import type { ModelFacts } from '../../models/facts.ts';
import { ollamaError, toApiError } from '../../plugins/errors.ts';
import type { RequestFacts } from '../../plugins/facts.ts';
import type { AnswerPart, StreamFormat, WholeAnswer } from '../answer.ts';
import { newId } from '../openai/routes.ts';
import type { ToolCall } from '../tool-calls.ts';

export interface ReplyHead {
  /** The name that the client used. */
  readonly model: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly facts: Pick<RequestFacts, 'loadMs'>;
}

/** What a reply says: a piece of an answer, or the whole. */
export interface Said {
  readonly text?: string;
  readonly thinking?: string;
  readonly calls?: readonly { readonly call: ToolCall; readonly index: number }[];
}

/** The one property that differs between the endpoints. */
export type Body = (said: Said) => Record<string, unknown>;

export const chatBody: Body = ({ text = '', thinking, calls = [] }) => ({
  message: {
    role: 'assistant',
    content: text,
    ...(thinking ? { thinking } : {}),
    ...(calls.length === 0
      ? {}
      : {
          tool_calls: calls.map(({ call, index }) => ({
            id: newId('call', '_'),
            function: { index, name: call.name, arguments: call.arguments },
          })),
        }),
  },
});
export const generateBody: Body = ({ text = '', thinking }) => ({
  response: text,
  ...(thinking ? { thinking } : {}),
});

/** The last object of an answer. @param context tokens of prompt and answer, where the endpoint gives them */
export function finalReply(
  head: ReplyHead,
  body: Record<string, unknown>,
  end: EndPart,
  context?: readonly number[],
): unknown {
  return {
    model: head.model,
    created_at: timeOf(head),
    ...body,
    done: true,
    done_reason: end.reason === 'length' ? 'length' : 'stop',
    ...(context === undefined ? {} : { context }),
    total_duration: nanoseconds(head.facts.loadMs + end.queuedMs + end.promptMs + end.decodeMs),
    load_duration: nanoseconds(head.facts.loadMs + end.queuedMs),
    prompt_eval_count: end.promptTokens,
    prompt_eval_duration: nanoseconds(end.promptMs),
    eval_count: end.completionTokens,
    eval_duration: nanoseconds(end.decodeMs),
  };
}

/** A whole answer in one object. */
export function wholeReply(
  head: ReplyHead,
  body: Body,
  answer: WholeAnswer,
  context?: (end: EndPart) => readonly number[],
): unknown {
  const calls = answer.calls.map((call, index) => ({ call, index }));
  const said = { ...body({ text: answer.text, thinking: answer.thinking, calls }), ...scores(answer.logprobs) };
  return finalReply(head, said, answer.end, context?.(answer.end));
}

/** What a request without a prompt gets: the model is loaded, or was asked to go. */
export function loadedReply(head: ReplyHead, body: Record<string, unknown>, reason: 'load' | 'unload'): unknown {
  return { model: head.model, created_at: timeOf(head), ...body, done: true, done_reason: reason };
}

/** One JSON object a line. */
export function streamFormat(
  head: ReplyHead,
  body: Body,
  context?: (end: EndPart) => readonly number[],
): StreamFormat<AnswerPart> {
  const line = (value: unknown) => `${JSON.stringify(value)}\n`;
  const piece = (said: Said, more: Record<string, unknown> = {}) =>
    line({ model: head.model, created_at: timeOf(head), ...body(said), done: false, ...more });
  return {
    contentType: 'application/x-ndjson',
    part: (part) => {
      switch (part.type) {
        case 'text':
          return piece({ text: part.text }, scores(part.logprobs ?? []));
        case 'thinking':
          return piece({ thinking: part.text });
        case 'call':
          return piece({ calls: [part] });
        default:
          return line(finalReply(head, body({}), part.end, context?.(part.end)));
      }
    },
    error: (thrown) => line(ollamaError(toApiError(thrown))),
  };
}

function scores(logprobs: readonly GeneratedLogprob[]): Record<string, unknown> {
  if (logprobs.length === 0) return {};
  const written = (score: TokenLogprob) => ({
    token: score.text,
    // JSON knows no infinity.
    logprob: Number.isFinite(score.logprob) ? score.logprob : -9999,
    bytes: score.bytes,
  });
  return {
    logprobs: logprobs.map((score) => ({
      ...written(score),
      ...(score.top.length === 0 ? {} : { top_logprobs: score.top.map(written) }),
    })),
  };
}

/** The facts that /api/tags, /api/ps and /api/show share. */
export function detailsOf(facts: ModelFacts): Record<string, unknown> {
  return {
    parent_model: '',
    format: facts.format,
    family: facts.architecture,
    families: facts.architecture === '' ? null : [facts.architecture],
    parameter_size: facts.parameters === 0 ? '' : humanNumber(facts.parameters),
    quantization_level: facts.quantization,
  };
}

/** 134515008 as Ollama writes it: 134.52M. */
export function humanNumber(value: number): string {
  if (value >= 1e9) {
    const billions = value / 1e9;
    return `${Number.isInteger(billions) ? billions : billions.toFixed(1)}B`;
  }
  if (value >= 1e6) {
    const millions = value / 1e6;
    return `${Number.isInteger(millions) ? millions : millions.toFixed(2)}M`;
  }
  return value >= 1e3 ? `${Math.round(value / 1e3)}K` : String(value);
}

function timeOf(head: ReplyHead): string {
  return new Date(head.now()).toISOString();
}

export function nanoseconds(ms: number): number {
  return Math.round(ms * 1e6);
}
