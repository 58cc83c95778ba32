/**
 * Parameters of a model: texts of a Modelfile to values, and what this server cannot honour refused by name. Pure.
 */
import { ApiError } from '../api-error.ts';
import { checkBody } from '../schemas/check.ts';
import { Options } from '../schemas/ollama.ts';

/** A parameter, the values of it that are harmless, and why others are not. */
export type FixedParameter = readonly [keyof Options, readonly unknown[], string];

/** Parameters that say nothing to this server, with the values that ask for what happens anyway. */
export const FIXED_PARAMETERS: readonly FixedParameter[] = [
  ['typical_p', [0, 1], 'typical sampling is not supported'],
  ['tfs_z', [1], 'tail-free sampling is not supported'],
  ['mirostat', [0], 'mirostat is not supported'],
  ['penalize_newline', [true], 'newlines are penalised like every token'],
  ['main_gpu', [0], 'all GPUs that the server has are used'],
  ['numa', [false], 'it is not supported'],
  ['low_vram', [false], 'it is not supported'],
  ['f16_kv', [true], 'the KV cache has a setting of its own'],
  ['logits_all', [false], 'it is not supported'],
  ['vocab_only', [false], 'it is not supported'],
  ['use_mmap', [true], 'the model is always mapped'],
  ['use_mlock', [false], 'it is not supported'],
];

/**
 * Checks parameters that are to hold for every request.
 * @throws ApiError (400) naming the parameter and what to do
 */
export function checkParameters(given: Readonly<Record<string, unknown>>): Options {
  const unknown = Object.keys(given).find((name) => !(name in Options.properties));
  if (unknown !== undefined)
    throw new ApiError(400, `${unknown} is not a parameter: check its spelling`, { param: unknown });
  const options = checkBody(Options, given);
  for (const [name, harmless, why] of FIXED_PARAMETERS) {
    const value = options[name];
    if (value !== undefined && !harmless.includes(value))
      throw new ApiError(400, `${name} cannot be ${String(value)}: ${why}; leave it out`, { param: name });
  }
  if (options.num_predict === 0)
    throw new ApiError(400, 'num_predict must be at least 1, or -1 for as many as fit', { param: 'num_predict' });
  return options;
}

/** The value that a parameter's text stands for; a text where it stands for none. */
export function parameterValue(name: string, text: string): unknown {
  if (name === 'stop') return text;
  if (/^(?:true|false)$/i.test(text)) return text.toLowerCase() === 'true';
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
