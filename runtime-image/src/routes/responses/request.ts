/**
 * A request of OpenAI's responses API to our terms; what it has and this server does not is refused by name.
 */
import { ApiError } from '../../api-error.ts';
import type { ChatMessage } from '../../chat-template.ts';
import type { Grammar } from '../../engines/engine.ts';
import type { Item, ResponsesRequest } from '../../schemas/responses.ts';
import { parsedArguments } from '../chat.ts';
import type { ToolDefinition } from '../tool-calls.ts';

/** @throws ApiError (400) for the first property that asks for what this server cannot do */
export function refuseUnsupported(body: Readonly<Record<string, unknown>>): void {
  const refusals: readonly (readonly [string, (value: unknown) => boolean, string])[] = [
    ['previous_response_id', () => false, 'nothing is stored here: send the whole conversation as input'],
    ['conversation', () => false, 'nothing is stored here: send the whole conversation as input'],
    ['store', (value) => value === false, 'nothing is stored here: leave store out'],
    ['background', (value) => value === false, 'answers are not made in the background: leave background out'],
    ['prompt', () => false, 'prompts are not stored here: write the text into input'],
    ['top_logprobs', (value) => value === 0, 'logprobs are in /v1/chat/completions only: leave top_logprobs out'],
    [
      'include',
      (value) => Array.isArray(value) && value.every((one) => one === 'reasoning.encrypted_content'),
      'nothing more can be included: leave include out',
    ],
    ['max_tool_calls', () => false, 'max_tool_calls counts tools that run on the server, and none do: leave it out'],
  ];
  for (const [param, harmless, message] of refusals) {
    const value = body[param];
    if (value === undefined || value === null || harmless(value)) continue;
    throw new ApiError(400, message, { param, code: 'unsupported_parameter' });
  }
}

export function messagesOf(body: ResponsesRequest): ChatMessage[] {
  const messages: ChatMessage[] = [];
  if (body.instructions) messages.push({ role: 'system', content: body.instructions });
  if (typeof body.input === 'string') return [...messages, { role: 'user', content: body.input }];
  body.input.forEach((item, index) => {
    const param = `input[${index}]`;
    switch (item.type ?? 'message') {
      case 'message':
        messages.push({
          role: item.role === 'developer' ? 'system' : (item.role ?? 'user'),
          content: textOf(item.content ?? '', `${param}.content`),
        });
        break;
      case 'function_call':
        addCall(messages, item);
        break;
      case 'function_call_output':
        messages.push({
          role: 'tool',
          content: outputOf(item.output),
          ...(item.call_id === undefined ? {} : { tool_call_id: item.call_id }),
        });
        break;
      case 'reasoning':
        // The model thinks afresh for each answer.
        break;
      default:
        throw new ApiError(400, `${param} has the type "${item.type}", which is not supported: leave it out`, {
          param: `${param}.type`,
          code: 'unsupported_content',
        });
    }
  });
  return messages;
}

/** Calls that follow each other, or a text of the assistant, belong to one message. */
function addCall(messages: ChatMessage[], item: Item): void {
  const call = {
    ...(item.call_id === undefined ? {} : { id: item.call_id }),
    type: 'function' as const,
    function: { name: item.name ?? '', arguments: parsedArguments(item.arguments) },
  };
  const last = messages.at(-1);
  if (last?.role === 'assistant')
    messages[messages.length - 1] = { ...last, tool_calls: [...(last.tool_calls ?? []), call] };
  else messages.push({ role: 'assistant', content: '', tool_calls: [call] });
}

function outputOf(output: unknown): string {
  if (typeof output === 'string') return output;
  if (Array.isArray(output) && output.every((one) => typeof (one as { text?: unknown } | null)?.text === 'string'))
    return (output as { text: string }[]).map((one) => one.text).join('');
  return JSON.stringify(output ?? '');
}

const TEXTS = ['input_text', 'output_text', 'text'];

function textOf(content: NonNullable<Item['content']>, param: string): string {
  if (typeof content === 'string') return content;
  return content
    .map((part, index) => {
      if (TEXTS.includes(part.type) && part.text !== undefined) return part.text;
      throw new ApiError(400, `this model reads text only: ${param}[${index}] has the type "${part.type}"`, {
        param: `${param}[${index}].type`,
        code: 'unsupported_content',
      });
    })
    .join('');
}

export function toolsOf(body: ResponsesRequest): ToolDefinition[] {
  return (body.tools ?? []).map((tool, index) => {
    if (tool.type !== 'function' || tool.name === undefined)
      throw new ApiError(400, `tools[${index}] must be a function with a name: other tools do not run here`, {
        param: `tools[${index}].type`,
        code: 'unsupported_parameter',
      });
    return {
      name: tool.name,
      ...(tool.description == null ? {} : { description: tool.description }),
      parameters: (tool.parameters ?? { type: 'object', properties: {} }) as ToolDefinition['parameters'],
    };
  });
}

export function grammarOf(body: ResponsesRequest): Grammar | undefined {
  const format = body.text?.format;
  if (format === undefined || format.type === 'text') return undefined;
  if (format.type === 'json_object') return { type: 'json' };
  if (format.schema === undefined)
    throw new ApiError(400, 'text.format.schema is required', {
      param: 'text.format.schema',
      code: 'missing_required_parameter',
    });
  return { type: 'json_schema', schema: format.schema };
}
