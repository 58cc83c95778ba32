/**
 * How Anthropic's API writes answers down: one writer makes both the events of a stream and the whole message.
 */
import type { EndPart } from '../../engines/engine.ts';
import { anthropicError, toApiError } from '../../plugins/errors.ts';
import type { AnswerPart, StreamFormat } from '../answer.ts';
import { newId } from '../openai/routes.ts';

type Content =
  | { readonly type: 'text'; text: string }
  | { readonly type: 'thinking'; thinking: string; readonly signature: string }
  | { readonly type: 'tool_use'; readonly id: string; readonly name: string; readonly input: unknown };

/** Collects an answer and tells of it in events. */
export class MessageWriter {
  readonly #model: string;
  readonly #id = newId('msg', '_');
  readonly #content: Content[] = [];
  #open = false;
  #stopReason: string | null = null;
  #stopSequence: string | null = null;
  #usage: Record<string, number>;

  constructor(model: string, promptTokens: number) {
    this.#model = model;
    this.#usage = {
      input_tokens: promptTokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens: 0,
    };
  }

  /** The message as far as it is known. */
  get message(): Record<string, unknown> {
    return {
      id: this.#id,
      type: 'message',
      role: 'assistant',
      model: this.#model,
      content: this.#content,
      stop_reason: this.#stopReason,
      stop_sequence: this.#stopSequence,
      usage: this.#usage,
    };
  }

  /** @returns the events that go ahead of every answer */
  start(): string {
    return event({ type: 'message_start', message: this.message });
  }

  /** @returns the events of one part */
  add(part: AnswerPart): string {
    const last = this.#content.at(-1);
    switch (part.type) {
      case 'text': {
        if (part.text === '') return '';
        const begin = last?.type === 'text' && this.#open ? '' : this.#begin({ type: 'text', text: '' });
        const block = this.#content.at(-1);
        if (block?.type === 'text') block.text += part.text;
        return begin + this.#delta({ type: 'text_delta', text: part.text });
      }
      case 'thinking': {
        const begin =
          last?.type === 'thinking' && this.#open ? '' : this.#begin({ type: 'thinking', thinking: '', signature: '' });
        const block = this.#content.at(-1);
        if (block?.type === 'thinking') block.thinking += part.text;
        return begin + this.#delta({ type: 'thinking_delta', thinking: part.text });
      }
      case 'call': {
        const { name, arguments: input } = part.call;
        const id = newId('toolu', '_');
        const begin = this.#begin({ type: 'tool_use', id, name, input: {} });
        this.#content[this.#content.length - 1] = { type: 'tool_use', id, name, input };
        return begin + this.#delta({ type: 'input_json_delta', partial_json: JSON.stringify(input) }) + this.#close();
      }
      default:
        return this.#end(part.end, part.calls);
    }
  }

  #end(end: EndPart, calls: number): string {
    const closed = this.#close();
    this.#stopReason = stopReason(end, calls);
    if (this.#stopReason === 'stop_sequence') this.#stopSequence = end.stop ?? null;
    this.#usage = {
      // Anthropic counts what was known already apart.
      input_tokens: end.promptTokens - end.cachedTokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: end.cachedTokens,
      output_tokens: end.completionTokens,
    };
    return (
      closed +
      event({
        type: 'message_delta',
        delta: { stop_reason: this.#stopReason, stop_sequence: this.#stopSequence },
        usage: this.#usage,
      }) +
      event({ type: 'message_stop' })
    );
  }

  #begin(block: Content): string {
    const closed = this.#close();
    this.#content.push(block);
    this.#open = true;
    return closed + event({ type: 'content_block_start', index: this.#content.length - 1, content_block: block });
  }

  #delta(delta: unknown): string {
    return event({ type: 'content_block_delta', index: this.#content.length - 1, delta });
  }

  #close(): string {
    if (!this.#open) return '';
    this.#open = false;
    return event({ type: 'content_block_stop', index: this.#content.length - 1 });
  }
}

function stopReason(end: EndPart, calls: number): string {
  if (calls > 0) return 'tool_use';
  if (end.reason === 'length') return 'max_tokens';
  return end.stop === undefined ? 'end_turn' : 'stop_sequence';
}

export function streamFormat(writer: MessageWriter): StreamFormat<AnswerPart> {
  return {
    contentType: 'text/event-stream; charset=utf-8',
    part: (part) => writer.add(part),
    error: (thrown) => `event: error\ndata: ${JSON.stringify(anthropicError(toApiError(thrown)))}\n\n`,
  };
}

function event(data: { readonly type: string; readonly [key: string]: unknown }): string {
  return `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;
}
