/**
 * How OpenAI's API writes answers down. Pure builders.
 */
import type { EndPart } from '../../engines/engine.ts';
import { openAiError, toApiError } from '../../plugins/errors.ts';
import type { StreamFormat } from '../answer.ts';

/** What every reply to one request shares. */
export interface ReplyHead {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  /** The name that the client used. */
  readonly model: string;
}

export function usageOf(end: EndPart): unknown {
  return {
    prompt_tokens: end.promptTokens,
    completion_tokens: end.completionTokens,
    total_tokens: end.promptTokens + end.completionTokens,
    prompt_tokens_details: { cached_tokens: end.cachedTokens },
  };
}

export function chatCompletion(head: ReplyHead, text: string, end: EndPart): unknown {
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: null,
        finish_reason: finishReason(end),
      },
    ],
    usage: usageOf(end),
  };
}

export function completion(head: ReplyHead, text: string, end: EndPart): unknown {
  return {
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: head.model,
    choices: [{ index: 0, text, logprobs: null, finish_reason: finishReason(end) }],
    usage: usageOf(end),
  };
}

/** Server-sent events. The parts that never change are made once: this runs for every token. */
export function streamFormat(
  head: ReplyHead,
  kind: 'chat.completion.chunk' | 'text_completion',
  includeUsage: boolean,
): StreamFormat & { readonly opening: string } {
  const { id, created, model } = head;
  const start = `data: {"id":${JSON.stringify(id)},"object":"${kind}","created":${created},"model":${JSON.stringify(model)}`;
  const usage = includeUsage ? ',"usage":null' : '';
  const choice = (content: string, finish: string) =>
    `${start},"choices":[{"index":0,${content},"logprobs":null,"finish_reason":${finish}}]${usage}}\n\n`;
  const chat = kind === 'chat.completion.chunk';
  return {
    contentType: 'text/event-stream; charset=utf-8',
    opening: chat ? choice('"delta":{"role":"assistant","content":""}', 'null') : '',
    text: (text) =>
      choice(chat ? `"delta":{"content":${JSON.stringify(text)}}` : `"text":${JSON.stringify(text)}`, 'null'),
    end: (end) => {
      const last = choice(chat ? '"delta":{}' : '"text":""', JSON.stringify(finishReason(end)));
      const counts = includeUsage ? `${start},"choices":[],"usage":${JSON.stringify(usageOf(end))}}\n\n` : '';
      return `${last}${counts}data: [DONE]\n\n`;
    },
    error: (thrown) => `data: ${JSON.stringify(openAiError(toApiError(thrown)))}\n\n`,
  };
}

function finishReason(end: EndPart): 'stop' | 'length' {
  return end.reason === 'length' ? 'length' : 'stop';
}
