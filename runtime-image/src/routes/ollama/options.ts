/**
 * Ollama's options and other settings to our terms. What cannot be honoured is refused by name, unless its value asks
 * for what happens anyway.
 */
import { ApiError } from '../../api-error.ts';
import type { EngineInfo, Grammar, SamplingParams } from '../../engines/engine.ts';
import type { ModelDefaults } from '../../modelfile/defaults.ts';
import { FIXED_PARAMETERS, type FixedParameter } from '../../modelfile/parameters.ts';
import { parseKeepAlive } from '../../models/keep-alive.ts';
import type { LoadedModel } from '../../models/loaded-model.ts';
import { checkBody } from '../../schemas/check.ts';
import { type ChatRequest, Options } from '../../schemas/ollama.ts';
import { type AnswerRequest, seedOf } from '../answer.ts';
import type { Overflow } from '../fitting.ts';
import { isObject } from '../tool-calls.ts';

/** Ollama's documented defaults. */
const DEFAULTS = { temperature: 0.8, topK: 40, topP: 0.9, minP: 0, repeatPenalty: 1.1, repeatLastN: 64 };

export interface OllamaSettings {
  readonly sampling: SamplingParams;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  /** Tokens that prompt and answer may have together. */
  readonly contextLength?: number;
}

/** @throws ApiError (400) naming the option and what to do */
export function settingsOf(sent: unknown, info: EngineInfo, defaults: ModelDefaults): OllamaSettings {
  const own: Options = inOptions(() => checkBody(Options, sent ?? {}));
  const unknown = Object.keys(own).find((name) => !(name in Options.properties));
  if (unknown !== undefined)
    throw new ApiError(400, `options.${unknown} is not an option: check its spelling`, { param: `options.${unknown}` });
  refuse(own, info);
  const options: Options = { ...defaults.parameters, ...own };
  const predict = options.num_predict ?? -1;
  if (predict === 0) throw new ApiError(400, 'options.num_predict must be at least 1, or -1 for as many as fit');
  return {
    maxTokens: predict < 0 ? Number.POSITIVE_INFINITY : predict,
    ...(options.num_ctx === undefined ? {} : { contextLength: options.num_ctx }),
    stop: typeof options.stop === 'string' ? [options.stop] : (options.stop ?? []),
    sampling: {
      temperature: options.temperature ?? DEFAULTS.temperature,
      topK: options.top_k ?? DEFAULTS.topK,
      topP: options.top_p ?? DEFAULTS.topP,
      minP: options.min_p ?? DEFAULTS.minP,
      seed: seedOf(options.seed),
      repeatPenalty: options.repeat_penalty ?? DEFAULTS.repeatPenalty,
      repeatLastN: options.repeat_last_n ?? DEFAULTS.repeatLastN,
      presencePenalty: options.presence_penalty ?? 0,
      frequencyPenalty: options.frequency_penalty ?? 0,
      logitBias: [],
    },
  };
}

/** What Ollama's API has beside options and this server does not, yet. */
export function refuseUnsupported(body: Readonly<Record<string, unknown>>, model: string): void {
  const given = (name: string) => {
    const value = body[name];
    const nothing =
      value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0);
    return !nothing;
  };
  const fail = (param: string, message: string) => {
    throw new ApiError(400, message, { param });
  };
  if (given('images')) fail('images', `${model} reads text only: leave images out`);
  if (given('template') && 'messages' in body)
    fail('template', "the model's own template is used: leave template out, or use /api/generate");
  if (Number(body['top_logprobs'] ?? 0) > 0 && body['logprobs'] !== true)
    fail('top_logprobs', 'top_logprobs needs logprobs: set it to true');
  const messages = body['messages'];
  if (Array.isArray(messages))
    // Where messages mean nothing, they may be anything.
    for (const message of messages as readonly unknown[])
      if (isObject(message) && Array.isArray(message['images']) && message['images'].length > 0)
        fail('messages', `${model} reads text only: leave images out`);
}

/** How long the model is to stay after the request, in milliseconds; undefined: as it was. */
export function keepAliveOf(value: number | string | undefined): number | undefined {
  if (value === undefined || value === '') return undefined;
  const ms = parseKeepAlive(value);
  if (ms !== undefined) return ms;
  throw new ApiError(400, 'keep_alive must be a number of seconds or a duration such as "5m"', { param: 'keep_alive' });
}

/** What an answer must look like. */
export function grammarOf(format: ChatRequest['format']): Grammar | undefined {
  if (format === undefined || format === '') return undefined;
  return format === 'json' ? { type: 'json' } : { type: 'json_schema', schema: format };
}

/**
 * What happens where the context is too small: as in Ollama, long prompts are cut and long answers go on, unless a request
 * says otherwise.
 * @throws ApiError (400) for a model that cannot go on
 */
export function overflowOf(body: ChatRequest, { engine, defaults }: LoadedModel): Overflow {
  const { num_ctx, num_keep }: Options = { ...defaults.parameters, ...body.options };
  const { contextLength, capabilities } = engine.info;
  const shifts = capabilities.shift === true;
  if (body.shift === true && !shifts)
    throw new ApiError(
      400,
      'this model cannot forget the middle of a text, so an answer that fills the context ends there: leave shift out',
      { param: 'shift' },
    );
  return {
    limit: Math.min(contextLength, num_ctx ?? contextLength),
    truncate: body.truncate !== false,
    shift: shifts && body.shift !== false,
    keep: num_keep === undefined ? undefined : Math.trunc(num_keep),
  };
}

/** The settings that chat and generate share. */
export function answerOf(body: ChatRequest, { engine, defaults }: LoadedModel): Omit<AnswerRequest, 'prompt'> {
  const grammar = grammarOf(body.format);
  return {
    ...settingsOf(body.options, engine.info, defaults),
    ...(grammar ? { grammar } : {}),
    ...(body.logprobs === true ? { logprobs: body.top_logprobs ?? 0 } : {}),
  };
}

function refuse(options: Options, info: EngineInfo): void {
  if (options.num_ctx !== undefined && options.num_ctx > info.contextLength)
    throw new ApiError(
      400,
      `options.num_ctx is ${options.num_ctx} and this server's context holds ${info.contextLength}: ` +
        'lower it, or raise spec.engine.contextLength of the SLMDeployment',
      { param: 'options.num_ctx' },
    );
  /** Values that ask for what happens anyway, and who decides otherwise. */
  const fixed: readonly FixedParameter[] = [
    ...FIXED_PARAMETERS,
    ['num_batch', [info.batchSize], 'the SLMDeployment sets it (spec.engine.batchSize)'],
    ['num_thread', [0, info.threads], 'the SLMDeployment sets it (spec.engine.threads)'],
    layersOnGpu(options, info.device),
  ];
  for (const [name, harmless, why] of fixed) {
    const value = options[name];
    if (value !== undefined && !harmless.includes(value))
      throw new ApiError(400, `options.${name} cannot be ${String(value)}: ${why}; leave it out`, {
        param: `options.${name}`,
      });
  }
}

/** Where the layers are computed was decided when the model was loaded. */
function layersOnGpu({ num_gpu: wanted }: Options, device: EngineInfo['device']): FixedParameter {
  // Below zero: as many as fit.
  if (device.class === 'cpu') return ['num_gpu', [0, -1], 'this server computes on the CPU'];
  const { layers, layersOffloaded = layers } = device;
  const all = layersOffloaded === layers && wanted !== undefined && wanted >= (layers ?? 1);
  return ['num_gpu', [-1, all ? wanted : layersOffloaded], 'the SLMDeployment sets it (spec.engine.gpuLayers)'];
}

/** Errors name an option as the client wrote it. */
function inOptions<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof ApiError) || error.details.param === undefined) throw error;
    throw new ApiError(error.status, `options.${error.message}`, { ...error.details });
  }
}
