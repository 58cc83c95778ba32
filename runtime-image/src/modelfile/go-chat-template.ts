/**
 * A chat template in Go's syntax, as TEMPLATE of a Modelfile has it, used as Ollama uses it: with all messages where the
 * template names them, else turn by turn. Owns what a template gets to see.
 */
import { ApiError } from '../api-error.ts';
import {
  type ChatMessage,
  makeDisarm,
  type PromptSegment,
  type PromptTemplate,
  type RenderOptions,
  segmentsOf,
  type TemplateTokens,
  withoutCuts,
} from '../chat-template.ts';
import { checkFunctions, evaluate } from './go-template/evaluator.ts';
import { TemplateError } from './go-template/lexer.ts';
import { identifiers, type Node, type Operand, parse, type Tree } from './go-template/parser.ts';
import { collate, messageValue, toolsValue } from './template-values.ts';

const RESPONSE: Node = {
  type: 'action',
  pipeline: { type: 'pipeline', names: [], assigns: false, commands: [[{ type: 'field', path: ['Response'] }]] },
};

type Turn = { system: string; prompt: string; response: string };

export class GoChatTemplate implements PromptTemplate {
  readonly insert?: (before: string, after: string) => PromptSegment[];
  readonly #tree: Tree;
  readonly #names: ReadonlySet<string>;
  readonly #tokens: Pick<TemplateTokens, 'controlTokens'>;

  /** @throws TemplateError with the line that is to blame */
  constructor(source: string, tokens: Pick<TemplateTokens, 'controlTokens'>) {
    const tree = parse(source);
    checkFunctions(tree);
    this.#names = identifiers(tree);
    const complete = this.#names.has('messages') || this.#names.has('response');
    this.#tree = complete ? tree : { ...tree, body: [...tree.body, RESPONSE] };
    this.#tokens = tokens;
    if (this.#names.has('suffix')) this.insert = (before, after) => this.#insert(before, after);
  }

  get supportsTools(): boolean {
    return this.#names.has('tools');
  }

  get supportsThinking(): boolean {
    return ['thinking', 'think', 'isthinkset', 'thinklevel'].some((name) => this.#names.has(name));
  }

  render(given: readonly ChatMessage[], { tools = [], variables = {} }: RenderOptions = {}): PromptSegment[] {
    const harmless = makeDisarm(this.#tokens);
    const { system, messages } = collate(
      given.map((message) => ({ ...(harmless(message) as ChatMessage), role: message.role })),
    );
    const { enable_thinking: think, reasoning_effort: effort } = variables;
    const settings = {
      Think: think === true,
      ThinkLevel: typeof effort === 'string' ? effort : '',
      IsThinkSet: think !== undefined,
    };
    const text = this.#names.has('messages')
      ? this.#evaluate(this.#tree, {
          ...settings,
          System: system,
          Messages: messages.map(messageValue),
          Tools: toolsValue(harmless(tools) as readonly unknown[]),
          Response: '',
        })
      : this.#turns(messages, settings);
    return segmentsOf(text);
  }

  /** Each turn is a template of its own; the last ends where the answer begins. */
  #turns(messages: readonly ChatMessage[], settings: Readonly<Record<string, unknown>>): string {
    const parts: string[] = [];
    const turn: Turn = { system: '', prompt: '', response: '' };
    const data = () => ({ ...settings, System: turn.system, Prompt: turn.prompt, Response: turn.response });
    const finish = () => {
      parts.push(this.#evaluate(this.#tree, data()));
      Object.assign(turn, { system: '', prompt: '', response: '' });
    };
    for (const { role, content } of messages) {
      if (role === 'system') {
        if (turn.prompt !== '' || turn.response !== '') finish();
        turn.system = content;
      } else if (role === 'user') {
        if (turn.response !== '') finish();
        turn.prompt = content;
      } else if (role === 'assistant') turn.response = content;
    }
    parts.push(this.#evaluate({ ...this.#tree, body: cutAfterResponse(this.#tree.body) }, data()));
    return parts.join('');
  }

  #insert(before: string, after: string): PromptSegment[] {
    const harmless = makeDisarm(this.#tokens);
    const data = {
      Prompt: harmless(before),
      Suffix: harmless(after),
      Response: '',
      Think: false,
      ThinkLevel: '',
      IsThinkSet: false,
    };
    return segmentsOf(this.#evaluate(this.#tree, data));
  }

  #evaluate(tree: Tree, data: Readonly<Record<string, unknown>>): string {
    try {
      return evaluate(tree, data);
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
      throw new ApiError(400, `the model's template refuses these messages: ${withoutCuts(error.message)}`, {
        param: 'messages',
      });
    }
  }
}

/** A template up to where it writes the answer. */
function cutAfterResponse(body: readonly Node[]): readonly Node[] {
  let cut = false;
  const writes = (one: Operand) => one.type === 'field' && one.path.includes('Response');
  const walk = (nodes: readonly Node[]): Node[] =>
    nodes.flatMap((node): Node[] => {
      if (cut) return [];
      if (node.type === 'action') {
        cut = node.pipeline.commands.some((command) => command.some(writes));
        return [node];
      }
      if (node.type === 'if' || node.type === 'with' || node.type === 'range') {
        const inner = walk(node.body);
        return [{ ...node, body: inner, otherwise: node.otherwise && walk(node.otherwise) }];
      }
      return [node];
    });
  return walk(body);
}
