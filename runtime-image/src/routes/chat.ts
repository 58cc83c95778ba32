/**
 * A chat with tools, thoughts and structured output, the same for every API: from what a client asks to the prompt, the
 * grammar and what to look for in the answer. Knows no API's format.
 */
import { ApiError } from '../api-error.ts';
import type { ChatMessage } from '../chat-template.ts';
import type { LoadedModel } from '../lifecycle.ts';
import type { ModelDefaults } from '../modelfile/defaults.ts';
import { type AnswerRequest, chatSegments, textPrompt } from './answer.ts';
import { fitMessages, type Overflow } from './fitting.ts';
import { callSchema, isObject, type ReaderOptions, type ToolDefinition, toolInstructions } from './tool-calls.ts';

/** Which tool the model may or must call. */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string };

export const EFFORTS = ['minimal', 'low', 'medium', 'high'] as const;
export type Effort = (typeof EFFORTS)[number];

/** What a model writes that had nothing to think about. */
const NO_THOUGHT = '\n</think>\n\n';

export interface ChatTask {
  readonly messages: readonly ChatMessage[];
  readonly tools: readonly ToolDefinition[];
  readonly toolChoice: ToolChoice;
  /** At most one call. */
  readonly single: boolean;
  /** Undefined: as the model's template has it. */
  readonly think: boolean | Effort | undefined;
  readonly answer: Omit<AnswerRequest, 'prompt'>;
  /** An earlier answer goes on: the messages that stand before every conversation are in it. Default false. */
  readonly continued?: boolean;
  /** What happens where the context is too small. Default: long prompts are refused, and long answers end. */
  readonly overflow?: Overflow;
}

export interface PreparedChat {
  readonly request: AnswerRequest;
  /** Undefined: the answer is text as it comes. */
  readonly reading: ReaderOptions | undefined;
}

/** @throws ApiError (400) for what this model, or its template, cannot do */
export function prepareChat(model: LoadedModel, task: ChatTask): PreparedChat {
  const { template } = model;
  const { forced, offered } = toolsOf(task);
  const known = template?.supportsTools === true;
  if (offered.length > 0 && !known && !forced)
    throw new ApiError(
      400,
      "this model does not support tools, because its chat template has no place for them: leave tools out, or set tool_choice to 'required' where the API has it",
      { param: 'tools', code: 'unsupported_parameter' },
    );
  if (forced && task.answer.grammar)
    throw new ApiError(400, 'a forced tool call and a response format exclude each other: leave one out', {
      param: 'tool_choice',
    });
  if (offered.length > 0 && !forced && task.answer.grammar)
    throw new ApiError(
      400,
      'tools and a response format exclude each other: leave one out, or set tool_choice to none',
      { param: 'tools' },
    );
  if (task.think !== undefined && task.think !== false && template?.supportsThinking !== true)
    throw new ApiError(400, 'this model does not support thinking: leave think out', {
      param: 'think',
      code: 'unsupported_parameter',
    });

  const grammar = forced
    ? ({ type: 'json_schema', schema: callSchema(forced) } as const)
    : (task.answer.grammar ?? undefined);
  const conversation = withDefaults(model.defaults, task);
  const messages = known ? conversation : spellOut(conversation, offered);
  const render = (some: readonly ChatMessage[]) => {
    const segments = chatSegments(model, some, {
      ...(known && offered.length > 0 ? { tools: offered.map((tool) => ({ type: 'function', function: tool })) } : {}),
      variables: thinkingVariables(task.think, grammar !== undefined),
    });
    const opened = /<think>\s*$/.test(segments.at(-1)?.text ?? '');
    // Some templates always begin a thought. One that nobody wants ends there; a grammar leaves no room for it.
    const unwanted = opened && (task.think === false || grammar !== undefined);
    if (unwanted) segments.push({ text: NO_THOUGHT, special: true });
    return { prompt: textPrompt(model, segments), begun: opened && !unwanted };
  };
  const { rendered, keep } = task.overflow
    ? fitMessages(messages, render, task.overflow, task.answer.maxTokens)
    : { rendered: render(messages), keep: undefined };
  const { prompt, begun } = rendered;
  const thinking = grammar ? undefined : begun ? 'begun' : template?.supportsThinking === true ? 'allowed' : undefined;
  const reading: ReaderOptions | undefined =
    offered.length === 0 && thinking === undefined
      ? undefined
      : { tools: offered.map((tool) => tool.name), forced: forced !== undefined, single: task.single, thinking };
  return {
    request: { ...task.answer, prompt, ...(keep ? { keep } : {}), ...(grammar ? { grammar } : {}) },
    reading,
  };
}

/** The messages with what the model's Modelfile puts before them. */
function withDefaults(defaults: ModelDefaults, { messages, continued }: ChatTask): readonly ChatMessage[] {
  const [first, ...rest] = messages;
  const history = continued === true ? [] : defaults.messages;
  if (first?.role === 'system') return history.length === 0 ? messages : [first, ...history, ...rest];
  const system: ChatMessage[] = defaults.system ? [{ role: 'system', content: defaults.system }] : [];
  return [...system, ...history, ...messages];
}

/** @returns the tools that the model is told of, and those of which it must call one */
function toolsOf(task: ChatTask): {
  offered: readonly ToolDefinition[];
  forced: readonly ToolDefinition[] | undefined;
} {
  const { toolChoice, tools } = task;
  if (toolChoice === 'none') return { offered: [], forced: undefined };
  if (toolChoice === 'auto') return { offered: tools, forced: undefined };
  const forced = toolChoice === 'required' ? tools : tools.filter((tool) => tool.name === toolChoice.name);
  if (forced.length === 0)
    throw new ApiError(
      400,
      toolChoice === 'required'
        ? 'tool_choice asks for a call, and there are no tools: add tools or leave tool_choice out'
        : `tool_choice names "${toolChoice.name}", which is not among the tools`,
      { param: 'tool_choice', code: 'invalid_value' },
    );
  return { offered: tools, forced };
}

function thinkingVariables(think: ChatTask['think'], grammar: boolean): Record<string, unknown> {
  if (grammar && think === undefined) return { enable_thinking: false };
  if (think === undefined) return {};
  return { enable_thinking: think !== false, ...(typeof think === 'string' ? { reasoning_effort: think } : {}) };
}

/** For a template that would drop them: calls and the list of tools become text. */
function spellOut(messages: readonly ChatMessage[], tools: readonly ToolDefinition[]): ChatMessage[] {
  const spelt = messages.map((message): ChatMessage => {
    const { tool_calls: calls, ...rest } = message;
    if (!calls || calls.length === 0) return message;
    const lines = calls.map((call) => JSON.stringify(call.function));
    return { ...rest, content: [message.content, ...lines].filter((line) => line !== '').join('\n') };
  });
  if (tools.length === 0) return spelt;
  const [first, ...others] = spelt;
  const instructions = toolInstructions(tools);
  return first?.role === 'system'
    ? [{ ...first, content: `${first.content}\n\n${instructions}` }, ...others]
    : [{ role: 'system', content: instructions }, ...spelt];
}

/** Arguments of a call in a message: an object, or its JSON. */
export function parsedArguments(value: unknown): unknown {
  if (typeof value !== 'string') return value ?? {};
  try {
    const parsed: unknown = JSON.parse(value);
    return isObject(parsed) ? parsed : value;
  } catch {
    return value;
  }
}
