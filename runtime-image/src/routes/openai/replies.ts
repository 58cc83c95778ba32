/**
 * How OpenAI's API writes answers down. Pure builders.
 */
import type { EndPart, GeneratedLogprob, TokenLogprob } from '../../engines/engine.ts';
import { openAiError, toApiError } from '../../plugins/errors.ts';
import type { AnswerPart, ChoicePart, StreamFormat, WholeAnswer } from '../answer.ts';
import type { ToolCall } from '../tool-calls.ts';

/** What every reply to one request shares. */
export interface ReplyHead {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  /** The name that the client used. */
  readonly model: string;
  /** A new id for each call of a tool. */
  readonly callId: () => string;
}

/** @param ends of all answers; those to one prompt follow each other, `each` of them */
export function usageOf(ends: readonly EndPart[], each = ends.length): unknown {
  const sum = (of: (end: EndPart) => number, list: readonly EndPart[]) =>
    list.reduce((total, end) => total + of(end), 0);
  // Several answers to one prompt read it once.
  const firsts = ends.filter((_, index) => index % each === 0);
  const prompt = sum((end) => end.promptTokens, firsts);
  const completion = sum((end) => end.completionTokens, ends);
  const reasoning = sum((end) => end.reasoningTokens ?? 0, ends);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum((end) => end.cachedTokens, firsts) },
    ...(reasoning === 0 ? {} : { completion_tokens_details: { reasoning_tokens: reasoning } }),
  };
}

export function chatCompletion(head: ReplyHead, answers: readonly WholeAnswer[], withLogprobs: boolean): unknown {
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: answers.map((answer, index) => ({
      index,
      message: {
        role: 'assistant',
        content: answer.text === '' && answer.calls.length > 0 ? null : answer.text,
        refusal: null,
        ...(answer.thinking === '' ? {} : { reasoning_content: answer.thinking }),
        ...(answer.calls.length === 0 ? {} : { tool_calls: answer.calls.map((call) => writtenCall(head, call)) }),
      },
      logprobs: withLogprobs ? chatLogprobs(answer.logprobs) : null,
      finish_reason: finishReason(answer.end, answer.calls.length),
    })),
    usage: usageOf(answers.map(({ end }) => end)),
  };
}

/** @param echoes texts that go before each answer, where the client asked for them */
export function completion(
  head: ReplyHead,
  answers: readonly WholeAnswer[],
  each: number,
  options: { readonly echoes?: readonly string[] | undefined; readonly logprobs: boolean },
): unknown {
  return {
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: head.model,
    choices: answers.map((answer, index) => ({
      index,
      text: `${options.echoes?.[Math.floor(index / each)] ?? ''}${answer.text}`,
      logprobs: options.logprobs ? textLogprobs(answer.logprobs, 0) : null,
      finish_reason: finishReason(answer.end, 0),
    })),
    usage: usageOf(
      answers.map(({ end }) => end),
      each,
    ),
  };
}

export interface StreamOptions {
  readonly kind: 'chat.completion.chunk' | 'text_completion';
  /** How many answers. */
  readonly choices: number;
  /** How many of them belong to one prompt. */
  readonly each: number;
  readonly includeUsage: boolean;
  readonly logprobs: boolean;
  readonly echoes?: readonly string[] | undefined;
}

/** Server-sent events. The parts that never change are made once: this runs for every token. */
export function streamFormat(
  head: ReplyHead,
  options: StreamOptions,
): StreamFormat<ChoicePart> & { readonly opening: string } {
  const { id, created, model } = head;
  const { kind, choices } = options;
  const start = `data: {"id":${JSON.stringify(id)},"object":"${kind}","created":${created},"model":${JSON.stringify(model)}`;
  const usage = options.includeUsage ? ',"usage":null' : '';
  const chunk = (choice: number, content: string, finish: string, logprobs = 'null') =>
    `${start},"choices":[{"index":${choice},${content},"logprobs":${logprobs},"finish_reason":${finish}}]${usage}}\n\n`;
  const chat = kind === 'chat.completion.chunk';
  const ends: EndPart[] = [];
  const lengths = new Map<number, number>();

  const scoresOf = (choice: number, part: AnswerPart & { type: 'text' }): string => {
    if (!options.logprobs) return 'null';
    if (chat) return JSON.stringify(chatLogprobs(part.logprobs ?? []));
    const offset = lengths.get(choice) ?? 0;
    lengths.set(choice, offset + part.text.length);
    return JSON.stringify(textLogprobs(part.logprobs ?? [], offset));
  };
  const finished = (choice: number, end: EndPart, calls: number): string => {
    ends[choice] = end;
    const last = chunk(choice, chat ? '"delta":{}' : '"text":""', JSON.stringify(finishReason(end, calls)));
    if (Object.keys(ends).length < choices) return last;
    const counts = options.includeUsage
      ? `${start},"choices":[],"usage":${JSON.stringify(usageOf(ends, options.each))}}\n\n`
      : '';
    return `${last}${counts}data: [DONE]\n\n`;
  };
  const indices = Array.from({ length: choices }, (_, index) => index);
  return {
    contentType: 'text/event-stream; charset=utf-8',
    opening: indices
      .map((index) => {
        if (chat) return chunk(index, '"delta":{"role":"assistant","content":""}', 'null');
        const echo = options.echoes?.[Math.floor(index / options.each)];
        return echo === undefined ? '' : chunk(index, `"text":${JSON.stringify(echo)}`, 'null');
      })
      .join(''),
    part: ({ choice, part }) => {
      switch (part.type) {
        case 'text': {
          const text = JSON.stringify(part.text);
          return chunk(choice, chat ? `"delta":{"content":${text}}` : `"text":${text}`, 'null', scoresOf(choice, part));
        }
        case 'thinking':
          return chunk(choice, `"delta":{"reasoning_content":${JSON.stringify(part.text)}}`, 'null');
        case 'call': {
          const calls = [{ index: part.index, ...writtenCall(head, part.call) }];
          return chunk(choice, `"delta":{"tool_calls":${JSON.stringify(calls)}}`, 'null');
        }
        default:
          return finished(choice, part.end, part.calls);
      }
    },
    error: (thrown) => `data: ${JSON.stringify(openAiError(toApiError(thrown)))}\n\n`,
  };
}

function writtenCall(head: ReplyHead, call: ToolCall): Record<string, unknown> {
  return {
    id: head.callId(),
    type: 'function',
    function: { name: call.name, arguments: JSON.stringify(call.arguments) },
  };
}

function chatLogprobs(scores: readonly GeneratedLogprob[]): unknown {
  const written = (score: TokenLogprob) => ({
    token: score.text,
    logprob: finite(score.logprob),
    bytes: score.bytes,
  });
  return {
    content: scores.map((score) => ({ ...written(score), top_logprobs: score.top.map(written) })),
    refusal: null,
  };
}

/** @param offset characters of the answer before these tokens */
function textLogprobs(scores: readonly GeneratedLogprob[], offset: number): unknown {
  let at = offset;
  return {
    tokens: scores.map((score) => score.text),
    token_logprobs: scores.map((score) => finite(score.logprob)),
    top_logprobs: scores.map((score) => Object.fromEntries(score.top.map((top) => [top.text, finite(top.logprob)]))),
    text_offset: scores.map((score) => {
      const here = at;
      at += score.text.length;
      return here;
    }),
  };
}

/** JSON knows no infinity; OpenAI writes -9999 for what is next to impossible. */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999;
}

function finishReason(end: EndPart, calls: number): 'stop' | 'length' | 'tool_calls' {
  if (calls > 0) return 'tool_calls';
  return end.reason === 'length' ? 'length' : 'stop';
}
