/**
 * How Ollama's API writes answers down. Pure builders; durations are nanoseconds there.
 */
import type { EndPart, EngineInfo } from '../../engines/engine.ts';
import { ollamaError, toApiError } from '../../plugins/errors.ts';
import type { StreamFormat } from '../answer.ts';

export interface ReplyHead {
  /** The name that the client used. */
  readonly model: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** The one property that differs between the endpoints. */
export type Body = (text: string) => Record<string, unknown>;
export const chatBody: Body = (content) => ({ message: { role: 'assistant', content } });
export const generateBody: Body = (response) => ({ response });

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
    total_duration: nanoseconds(end.queuedMs + end.promptMs + end.decodeMs),
    load_duration: nanoseconds(end.queuedMs),
    prompt_eval_count: end.promptTokens,
    prompt_eval_duration: nanoseconds(end.promptMs),
    eval_count: end.completionTokens,
    eval_duration: nanoseconds(end.decodeMs),
  };
}

/** What a request without a prompt gets: the model is loaded. */
export function loadedReply(head: ReplyHead, body: Record<string, unknown>): unknown {
  return { model: head.model, created_at: timeOf(head), ...body, done: true, done_reason: 'load' };
}

/** One JSON object a line. */
export function streamFormat(head: ReplyHead, body: Body, context?: (end: EndPart) => readonly number[]): StreamFormat {
  const line = (value: unknown) => `${JSON.stringify(value)}\n`;
  return {
    contentType: 'application/x-ndjson',
    text: (text) => line({ model: head.model, created_at: timeOf(head), ...body(text), done: false }),
    end: (end) => line(finalReply(head, body(''), end, context?.(end))),
    error: (thrown) => line(ollamaError(toApiError(thrown))),
  };
}

/** The facts that /api/tags, /api/ps and /api/show share. */
export function detailsOf(info: EngineInfo): Record<string, unknown> {
  const { model } = info;
  return {
    parent_model: '',
    format: model.format,
    family: model.architecture,
    families: [model.architecture],
    parameter_size: humanNumber(model.parameters),
    quantization_level: model.quantization,
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

function nanoseconds(ms: number): number {
  return Math.round(ms * 1e6);
}
