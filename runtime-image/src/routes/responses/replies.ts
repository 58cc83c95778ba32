/**
 * How OpenAI's responses API writes answers down: one writer makes both the events of a stream and the whole response.
 */
import type { EndPart } from '../../engines/engine.ts';
import { toApiError } from '../../plugins/errors.ts';
import type { ResponsesRequest } from '../../schemas/responses.ts';
import type { AnswerPart, StreamFormat } from '../answer.ts';
import { newId } from '../openai/routes.ts';

/** An item of the output and the text that it holds so far. */
interface Open {
  readonly kind: 'message' | 'reasoning';
  readonly id: string;
  text: string;
}

/** Collects an answer and tells of it in events. */
export class ResponseWriter {
  readonly #body: ResponsesRequest;
  readonly #id = newId('resp', '_');
  readonly #createdAt: number;
  readonly #output: unknown[] = [];
  #open: Open | undefined;
  #end: EndPart | undefined;
  #sequence = 0;

  /** @param createdAt seconds since 1970 */
  constructor(body: ResponsesRequest, createdAt: number) {
    this.#body = body;
    this.#createdAt = createdAt;
  }

  /** The response as far as it is known. */
  get response(): Record<string, unknown> {
    const body = this.#body;
    const end = this.#end;
    return {
      id: this.#id,
      object: 'response',
      created_at: this.#createdAt,
      status: this.#status(),
      error: null,
      incomplete_details: end?.reason === 'length' ? { reason: 'max_output_tokens' } : null,
      instructions: body.instructions ?? null,
      max_output_tokens: body.max_output_tokens ?? null,
      metadata: body.metadata ?? {},
      model: body.model,
      output: this.#output,
      parallel_tool_calls: body.parallel_tool_calls ?? true,
      previous_response_id: null,
      reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
      store: false,
      temperature: body.temperature ?? 1,
      text: { format: body.text?.format ?? { type: 'text' } },
      tool_choice: body.tool_choice ?? 'auto',
      tools: body.tools ?? [],
      top_p: body.top_p ?? 1,
      truncation: body.truncation ?? 'disabled',
      usage: end
        ? {
            input_tokens: end.promptTokens,
            input_tokens_details: { cached_tokens: end.cachedTokens },
            output_tokens: end.completionTokens,
            output_tokens_details: { reasoning_tokens: end.reasoningTokens ?? 0 },
            total_tokens: end.promptTokens + end.completionTokens,
          }
        : null,
    };
  }

  /** @returns the events that go ahead of every answer */
  start(): string {
    return (
      this.#event('response.created', { response: this.response }) +
      this.#event('response.in_progress', { response: this.response })
    );
  }

  /** @returns the events of one part */
  add(part: AnswerPart): string {
    switch (part.type) {
      case 'text':
        return part.text === '' ? '' : this.#text('message', part.text);
      case 'thinking':
        return this.#text('reasoning', part.text);
      case 'call':
        return this.#close() + this.#call(part.call.name, JSON.stringify(part.call.arguments));
      default: {
        const closed = this.#close();
        this.#end = part.end;
        return closed + this.#event(`response.${this.#status()}`, { response: this.response });
      }
    }
  }

  /** @returns the event for an error after the first byte */
  fail(thrown: unknown): string {
    const error = toApiError(thrown);
    return this.#event('error', {
      code: error.details.code ?? null,
      message: error.message,
      param: error.details.param ?? null,
    });
  }

  #status(): 'in_progress' | 'completed' | 'incomplete' {
    if (!this.#end) return 'in_progress';
    return this.#end.reason === 'length' ? 'incomplete' : 'completed';
  }

  #text(kind: Open['kind'], text: string): string {
    let begin = '';
    if (this.#open?.kind !== kind) {
      begin = this.#close();
      this.#open = { kind, id: newId(kind === 'message' ? 'msg' : 'rs', '_'), text: '' };
      begin +=
        this.#event('response.output_item.added', { ...this.#place(), item: itemOf(this.#open, 'in_progress') }) +
        this.#event('response.content_part.added', { ...this.#inside(), part: partOf(this.#open) });
    }
    if (this.#open) this.#open.text += text;
    const name = kind === 'message' ? 'output_text' : 'reasoning_text';
    return (
      begin +
      this.#event(`response.${name}.delta`, {
        ...this.#inside(),
        delta: text,
        ...(kind === 'message' ? { logprobs: [] } : {}),
      })
    );
  }

  #call(name: string, args: string): string {
    const id = newId('fc', '_');
    const item = { id, type: 'function_call', status: 'completed', call_id: newId('call', '_'), name, arguments: args };
    const place = { ...this.#place(), item_id: id };
    const events =
      this.#event('response.output_item.added', {
        ...this.#place(),
        item: { ...item, status: 'in_progress', arguments: '' },
      }) +
      this.#event('response.function_call_arguments.delta', { ...place, delta: args }) +
      this.#event('response.function_call_arguments.done', { ...place, name, arguments: args }) +
      this.#event('response.output_item.done', { ...this.#place(), item });
    this.#output.push(item);
    return events;
  }

  #close(): string {
    const open = this.#open;
    if (!open) return '';
    const item = itemOf(open, 'completed');
    const name = open.kind === 'message' ? 'output_text' : 'reasoning_text';
    const events =
      this.#event(`response.${name}.done`, {
        ...this.#inside(),
        text: open.text,
        ...(open.kind === 'message' ? { logprobs: [] } : {}),
      }) +
      this.#event('response.content_part.done', { ...this.#inside(), part: partOf(open) }) +
      this.#event('response.output_item.done', { ...this.#place(), item });
    this.#output.push(item);
    this.#open = undefined;
    return events;
  }

  #place(): { output_index: number } {
    return { output_index: this.#output.length };
  }

  #inside(): Record<string, unknown> {
    return { item_id: this.#open?.id, ...this.#place(), content_index: 0 };
  }

  #event(type: string, data: Record<string, unknown>): string {
    return `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: this.#sequence++, ...data })}\n\n`;
  }
}

function partOf(open: Open): unknown {
  return open.kind === 'message'
    ? { type: 'output_text', text: open.text, annotations: [], logprobs: [] }
    : { type: 'reasoning_text', text: open.text };
}

function itemOf(open: Open, status: 'in_progress' | 'completed'): unknown {
  const content = status === 'completed' ? [partOf(open)] : [];
  return open.kind === 'message'
    ? { id: open.id, type: 'message', status, role: 'assistant', content }
    : { id: open.id, type: 'reasoning', status, summary: [], content };
}

export function streamFormat(writer: ResponseWriter): StreamFormat<AnswerPart> {
  return {
    contentType: 'text/event-stream; charset=utf-8',
    part: (part) => writer.add(part),
    error: (thrown) => writer.fail(thrown),
  };
}
