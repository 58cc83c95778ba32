/**
 * OpenAI's request to our terms: messages, sampling, limits.
 */
import { ApiError } from '../../api-error.ts';
import type { ChatMessage } from '../../chat-template.ts';
import type { Grammar, SamplingParams } from '../../engines/engine.ts';
import type { ModelDefaults } from '../../modelfile/defaults.ts';
import type { ChatCompletionRequest, GenerationFields, Message } from '../../schemas/openai.ts';
import { seedOf } from '../answer.ts';
import { parsedArguments, type ToolChoice } from '../chat.ts';
import type { ToolDefinition } from '../tool-calls.ts';

/**
 * Temperature and top_p as OpenAI's reference has them. It knows no top_k: 40 is llama.cpp's and Ollama's, and keeps
 * the long tail of a small model's vocabulary out of answers at temperature 1.
 */
const DEFAULTS = { temperature: 1, topP: 1, topK: 40, minP: 0, repeatPenalty: 1, repeatLastN: 64 };

/** @param defaults the model's own, where the request has none */
export function samplingOf(body: GenerationFields, { parameters }: ModelDefaults): SamplingParams {
  return {
    temperature: body.temperature ?? parameters.temperature ?? DEFAULTS.temperature,
    topK: body.top_k ?? parameters.top_k ?? DEFAULTS.topK,
    topP: body.top_p ?? parameters.top_p ?? DEFAULTS.topP,
    minP: body.min_p ?? parameters.min_p ?? DEFAULTS.minP,
    seed: seedOf(body.seed ?? parameters.seed),
    repeatPenalty: body.repeat_penalty ?? parameters.repeat_penalty ?? DEFAULTS.repeatPenalty,
    repeatLastN: body.repeat_last_n ?? parameters.repeat_last_n ?? DEFAULTS.repeatLastN,
    presencePenalty: body.presence_penalty ?? parameters.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? parameters.frequency_penalty ?? 0,
    logitBias: Object.entries(body.logit_bias ?? {}).map(([token, bias]) => [tokenOf(token), Number(bias)] as const),
  };
}

export function stopsOf({ stop }: Pick<GenerationFields, 'stop'>): string[] {
  return typeof stop === 'string' ? [stop] : (stop ?? []);
}

/** @throws ApiError (400) for a format that asks for JSON and says not which */
export function grammarOf(body: GenerationFields): Grammar | undefined {
  const format = body.response_format;
  if (body.grammar !== undefined && format !== undefined && format.type !== 'text')
    throw new ApiError(400, 'grammar and response_format exclude each other: leave one out', { param: 'grammar' });
  if (body.grammar !== undefined && body.grammar.trim() !== '') return { type: 'gbnf', text: body.grammar };
  if (format === undefined || format.type === 'text') return undefined;
  if (format.type === 'json_object') return { type: 'json' };
  const schema = format.json_schema?.schema;
  if (schema === undefined)
    throw new ApiError(400, 'response_format.json_schema.schema is required', {
      param: 'response_format.json_schema.schema',
      code: 'missing_required_parameter',
    });
  return { type: 'json_schema', schema };
}

export function toolsOf(tools: ChatCompletionRequest['tools']): ToolDefinition[] {
  return (tools ?? []).map(({ type, function: tool }, index) => {
    if (type !== undefined && type !== 'function')
      throw new ApiError(400, `tools[${index}].type must be function`, { param: `tools[${index}].type` });
    return {
      name: tool.name,
      ...(tool.description == null ? {} : { description: tool.description }),
      parameters: (tool.parameters ?? { type: 'object', properties: {} }) as ToolDefinition['parameters'],
    };
  });
}

export function toolChoiceOf(choice: ChatCompletionRequest['tool_choice']): ToolChoice {
  return typeof choice === 'object' ? { name: choice.function.name } : (choice ?? 'auto');
}

/** @throws ApiError (400) for messages that only a model with eyes could take */
export function messagesOf(body: ChatCompletionRequest): ChatMessage[] {
  return body.messages.map((message, index) => {
    const param = `messages[${index}]`;
    const { role } = message;
    if (role === 'function')
      throw new ApiError(400, `functions are not supported: ${param} must have the role tool`, {
        param,
        code: 'unsupported_parameter',
      });
    const calls = message.tool_calls ?? [];
    const silent = role === 'assistant' && message.content == null && calls.length > 0;
    return {
      role: role === 'developer' ? 'system' : role,
      content: silent ? '' : contentOf(message.content, `${param}.content`),
      ...(calls.length === 0
        ? {}
        : {
            tool_calls: calls.map((call) => ({
              ...(call.id === undefined ? {} : { id: call.id }),
              type: 'function' as const,
              function: { name: call.function.name, arguments: parsedArguments(call.function.arguments) },
            })),
          }),
      ...(message.tool_call_id == null ? {} : { tool_call_id: message.tool_call_id }),
      ...(message.name == null ? {} : { name: message.name }),
      ...(message.reasoning_content == null ? {} : { reasoning_content: message.reasoning_content }),
    };
  });
}

function contentOf(content: Message['content'], param: string): string {
  if (typeof content === 'string') return content;
  if (!content) throw new ApiError(400, `${param} must be a text`, { param, code: 'invalid_value' });
  return content
    .map((part, index) => {
      if (part.type === 'text' && part.text !== undefined) return part.text;
      throw new ApiError(400, `this model reads text only: ${param}[${index}] has the type "${part.type}"`, {
        param: `${param}[${index}].type`,
        code: 'unsupported_content',
      });
    })
    .join('');
}

function tokenOf(key: string): number {
  if (/^\d+$/.test(key)) return Number(key);
  throw new ApiError(400, `logit_bias has the key "${key}"; keys are ids of tokens`, { param: 'logit_bias' });
}
