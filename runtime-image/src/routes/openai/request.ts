/**
 * OpenAI's request to our terms: messages, sampling, limits.
 */
import { ApiError } from '../../api-error.ts';
import type { ChatMessage } from '../../chat-template.ts';
import type { SamplingParams } from '../../engines/engine.ts';
import type { ChatCompletionRequest, GenerationFields } from '../../schemas/openai.ts';
import { seedOf } from '../answer.ts';

/**
 * Temperature and top_p as OpenAI's reference has them. It knows no top_k: 40 is llama.cpp's and Ollama's, and keeps
 * the long tail of a small model's vocabulary out of answers at temperature 1.
 */
const DEFAULTS = { temperature: 1, topP: 1, topK: 40, minP: 0, repeatPenalty: 1, repeatLastN: 64 };

export function samplingOf(body: GenerationFields): SamplingParams {
  return {
    temperature: body.temperature ?? DEFAULTS.temperature,
    topK: body.top_k ?? DEFAULTS.topK,
    topP: body.top_p ?? DEFAULTS.topP,
    minP: body.min_p ?? DEFAULTS.minP,
    seed: seedOf(body.seed),
    repeatPenalty: body.repeat_penalty ?? DEFAULTS.repeatPenalty,
    repeatLastN: body.repeat_last_n ?? DEFAULTS.repeatLastN,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    logitBias: Object.entries(body.logit_bias ?? {}).map(([token, bias]) => [tokenOf(token), Number(bias)] as const),
  };
}

export function stopsOf(body: GenerationFields): string[] {
  return typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []);
}

/** @throws ApiError (400) for messages that only a model with eyes or tools could take */
export function messagesOf(body: ChatCompletionRequest): ChatMessage[] {
  return body.messages.map((message, index) => {
    const param = `messages[${index}]`;
    const { role } = message;
    if (role === 'tool' || role === 'function')
      throw new ApiError(400, `tools are not supported yet: ${param} has the role ${role}`, {
        param,
        code: 'unsupported_parameter',
      });
    const content = contentOf(message.content, `${param}.content`);
    return { role: role === 'developer' ? 'system' : role, content };
  });
}

function contentOf(content: ChatCompletionRequest['messages'][number]['content'], param: string): string {
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
