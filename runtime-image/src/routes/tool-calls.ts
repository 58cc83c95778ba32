/**
 * Finds the calls of tools, and the thoughts, in what a model writes. Owns the spellings that models were trained on
 * (Hermes and Qwen `<tool_call>`, Llama 3 and Mistral plain JSON, `<think>`); knows no API's format.
 */

/** A call that the model asks for. */
export interface ToolCall {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** A tool that a client offers. */
export interface ToolDefinition {
  readonly name: string;
  readonly description?: string;
  /** JSON Schema of the arguments, an object's. */
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** What a piece of the answer turned out to be. */
export interface Reading {
  readonly thinking: string;
  readonly text: string;
  readonly calls: readonly ToolCall[];
}

export interface ReaderOptions {
  /** Names of the tools on offer; calls of others stay text. None: nothing is looked for. */
  readonly tools: readonly string[];
  /** The whole answer is one call, because a grammar made it so. */
  readonly forced: boolean;
  /** At most one call, whatever the model writes. */
  readonly single: boolean;
  /** Undefined: `<think>` is text. `begun`: the prompt ended with the opening tag. */
  readonly thinking: 'begun' | 'allowed' | undefined;
}

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';
const THINK = '<think>';
const THOUGHT = '</think>';
/** What stands before plain JSON in some models. */
const MARKS = /^(?:<\|python_tag\|>|\[TOOL_CALLS\]|<function_call>|```json\s)/;
const MARK_STARTS = ['<|python_tag|>', '[TOOL_CALLS]', '<function_call>', '```json'];

type State = 'before-thought' | 'thinking' | 'start' | 'text' | 'call' | 'whole';

/** Reads an answer as it comes. Text that may be the beginning of a call is held back. */
export class AnswerReader {
  readonly #options: ReaderOptions;
  #state: State;
  #held = '';
  #calls = 0;
  /** Newlines between a thought or a call and what follows mean nothing. */
  #trimNext = false;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#state =
      options.thinking === 'begun'
        ? 'thinking'
        : options.thinking === 'allowed'
          ? 'before-thought'
          : this.#afterThought();
    if (options.thinking === 'begun') this.#trimNext = true;
  }

  /** Whether what comes next belongs to a thought. */
  get thinks(): boolean {
    return this.#state === 'thinking';
  }

  push(text: string): Reading {
    this.#held += text;
    return this.#read(false);
  }

  /** Call once, after the last piece. */
  end(): Reading {
    return this.#read(true);
  }

  #afterThought(): State {
    const { tools, forced } = this.#options;
    if (tools.length === 0) return 'text';
    return forced ? 'whole' : 'start';
  }

  #read(last: boolean): Reading {
    let thinking = '';
    let text = '';
    const calls: ToolCall[] = [];
    const add = (found: readonly ToolCall[]) => {
      for (const call of found) {
        if (this.#options.single && this.#calls > 0) continue;
        this.#calls++;
        calls.push(call);
      }
    };
    for (;;) {
      const before: string = this.#held;
      const state: State = this.#state;
      if (this.#trimNext) {
        this.#held = this.#held.trimStart();
        if (this.#held === '') break;
        this.#trimNext = false;
      }
      switch (state) {
        case 'before-thought': {
          const rest = this.#held.trimStart();
          if (!last && (rest === '' || (rest.length < THINK.length && THINK.startsWith(rest)))) break;
          if (rest.startsWith(THINK)) {
            this.#held = rest.slice(THINK.length);
            this.#state = 'thinking';
            this.#trimNext = true;
          } else this.#state = this.#afterThought();
          break;
        }
        case 'thinking': {
          const end = this.#held.indexOf(THOUGHT);
          if (end >= 0) {
            thinking += this.#held.slice(0, end);
            this.#held = this.#held.slice(end + THOUGHT.length);
            this.#state = this.#afterThought();
            this.#trimNext = true;
          } else thinking += this.#take(last ? 0 : overlap(this.#held, THOUGHT));
          break;
        }
        case 'start': {
          const rest = this.#held.trimStart();
          if (rest === '' && !last) break;
          if (/^[{[]/.test(rest) || MARKS.test(rest)) this.#state = 'whole';
          else if (last || !MARK_STARTS.some((mark) => mark.startsWith(rest))) this.#state = 'text';
          break;
        }
        case 'text': {
          if (this.#options.tools.length === 0) {
            text += this.#take(0);
            break;
          }
          const open = this.#held.indexOf(OPEN);
          if (open >= 0) {
            text += this.#held.slice(0, open);
            this.#held = this.#held.slice(open + OPEN.length);
            this.#state = 'call';
          } else text += this.#take(last ? 0 : overlap(this.#held, OPEN));
          break;
        }
        case 'call': {
          const close = this.#held.indexOf(CLOSE);
          if (close < 0 && !last) break;
          const inside = close < 0 ? this.#held : this.#held.slice(0, close);
          const found = callsIn(inside, this.#options.tools);
          if (found) add(found);
          else text += OPEN + inside + (close < 0 ? '' : CLOSE);
          this.#held = close < 0 ? '' : this.#held.slice(close + CLOSE.length);
          this.#state = 'text';
          this.#trimNext = found !== undefined;
          break;
        }
        case 'whole': {
          if (!last) break;
          const found = callsIn(this.#held, this.#options.tools);
          if (found) add(found);
          else text += this.#held;
          this.#held = '';
          break;
        }
      }
      if (this.#held === before && this.#state === state) break;
    }
    return { thinking, text, calls };
  }

  /** Takes what is held but for its last `keep` characters. */
  #take(keep: number): string {
    const taken = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(this.#held.length - keep);
    return taken;
  }
}

/** @returns the calls that a JSON text spells out, or undefined when it is something else */
export function callsIn(text: string, tools: readonly string[]): ToolCall[] | undefined {
  const bare = text
    .trim()
    .replace(MARKS, '')
    .replace(/(?:```|<\/function_call>)$/, '')
    .trim();
  let parsed: unknown;
  try {
    parsed = JSON.parse(bare);
  } catch {
    return undefined;
  }
  const list: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  const calls = list.map((one) => callOf(one, tools));
  return calls.length > 0 && calls.every((call) => call !== undefined) ? calls : undefined;
}

function callOf(value: unknown, tools: readonly string[]): ToolCall | undefined {
  if (!isObject(value)) return undefined;
  const source = isObject(value['function']) ? value['function'] : value;
  const name = source['name'];
  if (typeof name !== 'string' || !tools.includes(name)) return undefined;
  let sent = source['arguments'] ?? source['parameters'] ?? {};
  if (typeof sent === 'string')
    try {
      sent = JSON.parse(sent);
    } catch {
      return undefined;
    }
  return isObject(sent) ? { name, arguments: sent } : undefined;
}

/** The schema of an answer that is one call of one of these tools. */
export function callSchema(tools: readonly ToolDefinition[]): Record<string, unknown> {
  const one = (tool: ToolDefinition) => ({
    type: 'object',
    properties: { name: { const: tool.name }, arguments: tool.parameters },
    required: ['name', 'arguments'],
    additionalProperties: false,
  });
  const [first] = tools;
  return tools.length === 1 && first ? one(first) : { anyOf: tools.map(one) };
}

/** For a template that knows no tools: the same, said in words. */
export function toolInstructions(tools: readonly ToolDefinition[]): string {
  const list = tools.map((tool) => JSON.stringify({ type: 'function', function: tool })).join('\n');
  return (
    `You may call these functions:\n<tools>\n${list}\n</tools>\n` +
    'To call one, answer with a JSON object that has its "name" and its "arguments".'
  );
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Length of the longest end of `text` that begins `tag`. */
function overlap(text: string, tag: string): number {
  for (let length = Math.min(text.length, tag.length - 1); length > 0; length--)
    if (text.endsWith(tag.slice(0, length))) return length;
  return 0;
}
