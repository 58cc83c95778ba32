/**
 * Messages to prompt text, by the Jinja template that the model brings along. Owns no template of its own.
 */
import { Template } from '@huggingface/jinja';
import { ApiError } from './api-error.ts';

/** A call that the assistant made, with its arguments parsed. */
export interface ToolCall {
  readonly id?: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: unknown };
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  readonly tool_calls?: readonly ToolCall[];
  readonly tool_call_id?: string;
  /** Of the tool that answers. */
  readonly name?: string;
  /** What the assistant thought before it answered. */
  readonly reasoning_content?: string;
}

export interface RenderOptions {
  /** In OpenAI's form: `{type: 'function', function: {name, description, parameters}}`. */
  readonly tools?: readonly unknown[];
  /** More variables for the template, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** Part of a prompt; parts are tokenized one by one. */
export interface PromptSegment {
  readonly text: string;
  /** Whether `<|im_end|>` and its like are the tokens they name. */
  readonly special: boolean;
}

/** Writes messages down as a prompt, in whatever syntax a model brings its template. */
export interface PromptTemplate {
  /** Whether the template writes down tools; without it they would be dropped silently. */
  readonly supportsTools: boolean;
  /** Whether the template knows of thinking. */
  readonly supportsThinking: boolean;
  /**
   * @returns the prompt, ended so that the assistant speaks next
   * @throws ApiError (400) when the template refuses the messages
   */
  render(messages: readonly ChatMessage[], options?: RenderOptions): PromptSegment[];
  /** The prompt for a text between two others; absent where the template has no place for it. */
  readonly insert?: (before: string, after: string) => PromptSegment[];
}

export interface TemplateTokens {
  readonly bosToken: string;
  readonly eosToken: string;
  /** Texts that steer the model, which nobody but the template may write. Asked for on first use. */
  readonly controlTokens?: () => readonly string[];
}

/**
 * Never a character of any text (Unicode reserves it for a program's own use): it marks where a client wrote a text that
 * steers the model, all the way through the template.
 */
const CUT = '\ufdd0';

export class ChatTemplate implements PromptTemplate {
  readonly #template: Template;
  readonly #source: string;
  readonly #tokens: TemplateTokens;

  /** @throws Error when the template cannot be parsed */
  constructor(source: string, tokens: TemplateTokens) {
    this.#template = new Template(source);
    this.#source = source;
    this.#tokens = tokens;
  }

  /** Whether the template writes down tools; without it they would be dropped silently. */
  get supportsTools(): boolean {
    return /\btools\b/.test(this.#source);
  }

  /** Whether the template knows of thinking. */
  get supportsThinking(): boolean {
    return /\b(enable_thinking|thinking|reasoning_content|reasoning_effort)\b|<\/?think>/.test(this.#source);
  }

  /**
   * @returns the prompt, ended so that the assistant speaks next; where a client wrote a control token's text, it is cut
   * in two, so that it stays text
   * @throws ApiError (400) when the template refuses the messages, such as two of the user in a row
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): PromptSegment[] {
    const harmless = makeDisarm(this.#tokens);
    try {
      const text = this.#template.render({
        ...options.variables,
        ...(options.tools && options.tools.length > 0 ? { tools: harmless(options.tools) } : {}),
        messages: messages.map((message) => ({ ...(harmless(message) as ChatMessage), role: message.role })),
        add_generation_prompt: true,
        bos_token: this.#tokens.bosToken,
        eos_token: this.#tokens.eosToken,
      });
      return segmentsOf(text);
    } catch (error) {
      const said = error instanceof Error ? withoutCuts(error.message) : String(error);
      throw new ApiError(400, `the model's chat template refuses these messages: ${said}`, { param: 'messages' });
    }
  }
}

/** The prompt that a template wrote, cut where a client's text would have become a token. */
export function segmentsOf(text: string): PromptSegment[] {
  return text.split(CUT).map((part) => ({ text: part, special: true }));
}

/** A text without the marks of `makeDisarm`. */
export function withoutCuts(text: string): string {
  return text.replaceAll(CUT, '');
}

/** @returns what copies any value so that every control token's text in it carries a cut after its first character */
export function makeDisarm({ controlTokens }: Pick<TemplateTokens, 'controlTokens'>): (value: unknown) => unknown {
  const control = (controlTokens?.() ?? []).filter((text) => text.length > 1);
  const disarmText = (text: string): string => {
    const clean = text.replaceAll(CUT, '\ufffd');
    const cuts = new Set<number>();
    for (const token of control)
      for (let at = clean.indexOf(token); at >= 0; at = clean.indexOf(token, at + 1)) cuts.add(at + 1);
    if (cuts.size === 0) return clean;
    const borders = [0, ...[...cuts].sort((a, b) => a - b), clean.length];
    return borders
      .slice(1)
      .map((end, index) => clean.slice(borders[index], end))
      .join(CUT);
  };
  const disarm = (value: unknown): unknown => {
    if (typeof value === 'string') return disarmText(value);
    if (Array.isArray(value)) return value.map(disarm);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [disarmText(key), disarm(inner)]));
  };
  return disarm;
}
