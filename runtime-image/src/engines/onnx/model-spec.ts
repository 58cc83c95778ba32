/**
 * What an ONNX model takes and gives, told by its files: a language model with its key-value caches, or one that embeds.
 * Owns the names that exporters use; refuses with a sentence what this server could not feed.
 */
import path from 'node:path';
import { StartupError } from '../../failures.ts';
import { type Json, numberAt, objectAt, textAt } from './json.ts';
import type { ModelFiles } from './model-folder.ts';
import type { Port } from './model-proto.ts';

/** A tensor by name. */
export interface TensorSpec {
  readonly name: string;
  /** ONNX Runtime's name of the type. */
  readonly type: string;
}

/** Keys or values of one layer. */
export interface CacheSpec {
  readonly past: string;
  readonly present: string;
  readonly type: 'float32' | 'float16';
  readonly heads: number;
  /** Numbers for each head and token. */
  readonly width: number;
}

export interface LanguageSpec {
  readonly kind: 'language';
  readonly ids: TensorSpec;
  readonly mask: TensorSpec | undefined;
  readonly positions: TensorSpec | undefined;
  /** How many logits are wanted: 1. */
  readonly logitsWanted: TensorSpec | undefined;
  /** Whether there is a past, for decoders that were merged of two. */
  readonly hasPast: TensorSpec | undefined;
  readonly logits: TensorSpec;
  readonly vocabularySize: number;
  readonly caches: readonly CacheSpec[];
  /** Whether the attention writes into the past that it is given, so that present and past may be one buffer. */
  readonly shared: boolean;
}

export interface EmbeddingSpec {
  readonly kind: 'embedding';
  readonly ids: TensorSpec;
  readonly mask: TensorSpec | undefined;
  readonly types: TensorSpec | undefined;
  readonly output: TensorSpec;
  /** Whether the output is one vector for the text, and not one for each token. */
  readonly pooled: boolean;
  readonly width: number;
}

const IDS = ['int64', 'int32'];
const FLOATS = ['float32', 'float16'];
/** Operators whose present is the past with the new tokens in their places. */
const WRITES_IN_PLACE = 'GroupQueryAttention';

/** @throws StartupError (UnsupportedArchitecture, UnsupportedFormat) */
export function specOf(files: ModelFiles, config: Json | undefined): LanguageSpec | EmbeddingSpec {
  const { inputs, outputs } = files.proto;
  const pastPattern = /past/i;
  if (inputs.some(({ name, shape }) => pastPattern.test(name) && shape.length > 0)) return language(files, config);
  const logits = outputs.some(({ name }) => name === 'logits');
  const hidden = outputs.some(({ name }) => /hidden_state|embedding|pooler/.test(name));
  if (hidden && !logits) return embedding(files);
  throw new StartupError(
    'UnsupportedArchitecture',
    logits
      ? `${path.basename(files.file)} gives logits and keeps no past (inputs: ${names(inputs)}): export it with its key-value cache (text-generation-with-past).`
      : `${path.basename(files.file)} is neither a language model nor one that embeds (outputs: ${names(outputs)}): use another model.`,
  );
}

function language(files: ModelFiles, config: Json | undefined): LanguageSpec {
  const { inputs, outputs, producers } = files.proto;
  const file = path.basename(files.file);
  const decoder = objectAt(files.genai, 'model', 'decoder');
  const named = (kind: 'inputs' | 'outputs', key: string, usual: string) =>
    textAt(objectAt(decoder, kind), key) ?? usual;
  const left = new Map(inputs.map((port) => [port.name, port]));
  const take = (name: string, types: readonly string[], rank?: number): TensorSpec | undefined => {
    const port = left.get(name);
    if (!port) return undefined;
    left.delete(name);
    if (rank !== undefined && port.shape.length > rank) throw unsupportedInput(file, name);
    return checked(file, port, types);
  };
  const ids = take(named('inputs', 'input_ids', 'input_ids'), IDS);
  const mask = take(named('inputs', 'attention_mask', 'attention_mask'), IDS);
  const positions = take(named('inputs', 'position_ids', 'position_ids'), IDS, 2);
  const logitsWanted = take('num_logits_to_keep', ['int64']);
  const hasPast = take('use_cache_branch', ['bool']);
  const logits = outputs.find(({ name }) => name === named('outputs', 'logits', 'logits'));
  if (!ids) throw unsupportedInput(file, inputs[0]?.name ?? 'nothing');
  if (!logits)
    throw new StartupError(
      'UnsupportedArchitecture',
      `${file} gives no logits (outputs: ${names(outputs)}): use another model.`,
    );

  const heads =
    numberAt(decoder, 'num_key_value_heads') ??
    numberAt(config, 'num_key_value_heads', 'num_attention_heads', 'n_head');
  const width =
    numberAt(decoder, 'head_size') ??
    numberAt(config, 'head_dim') ??
    (numberAt(config, 'hidden_size', 'n_embd') ?? 0) / (numberAt(config, 'num_attention_heads', 'n_head') ?? 1);
  const presents = presentNames(decoder);
  const caches = [...left.values()]
    .filter(({ name }) => /past/i.test(name))
    .map((port): CacheSpec => {
      left.delete(port.name);
      const present = presents(port.name);
      const output = outputs.find(({ name }) => name === present);
      const own = [port.shape[1], port.shape[3]].map((size) =>
        typeof size === 'number' && size > 0 ? size : undefined,
      );
      const sizes = [own[0] ?? heads ?? 0, own[1] ?? width] as const;
      if (port.shape.length !== 4 || !output || sizes.some((size) => !Number.isInteger(size) || size < 1))
        throw unsupportedInput(file, port.name);
      const { type } = checked(file, port, FLOATS);
      return { past: port.name, present, type: type as CacheSpec['type'], heads: sizes[0], width: sizes[1] };
    });
  const [unknown] = left.keys();
  if (unknown !== undefined) throw unsupportedInput(file, unknown);
  const last = logits.shape.at(-1);
  const vocabularySize =
    typeof last === 'number'
      ? last
      : (numberAt(objectAt(files.genai, 'model'), 'vocab_size') ?? numberAt(config, 'vocab_size'));
  if (vocabularySize === undefined)
    throw new StartupError(
      'NotAModel',
      `neither ${file} nor config.json says how large the vocabulary is: set vocab_size in config.json.`,
    );
  return {
    kind: 'language',
    ids,
    mask,
    positions,
    logitsWanted,
    hasPast,
    logits: checked(file, logits, FLOATS),
    vocabularySize,
    caches,
    shared: mask !== undefined && caches.every(({ present }) => producers.get(present) === WRITES_IN_PLACE),
  };
}

/** Names of outputs by the names of inputs: by onnxruntime-genai's patterns, else by the word. */
function presentNames(decoder: Json | undefined): (past: string) => string {
  const pairs = (['key', 'value'] as const).flatMap((kind) => {
    const past = textAt(objectAt(decoder, 'inputs'), `past_${kind}_names`);
    const present = textAt(objectAt(decoder, 'outputs'), `present_${kind}_names`);
    return past?.includes('%d') && present ? [{ past: past.split('%d'), present }] : [];
  });
  return (name) => {
    for (const { past, present } of pairs) {
      const [before = '', after = ''] = past;
      const number = name.slice(before.length, name.length - after.length);
      if (name.startsWith(before) && name.endsWith(after) && /^\d+$/.test(number)) return present.replace('%d', number);
    }
    return name.replace(/past_key_values|past/, 'present');
  };
}

function embedding(files: ModelFiles): EmbeddingSpec {
  const { inputs, outputs } = files.proto;
  const file = path.basename(files.file);
  const left = new Map(inputs.map((port) => [port.name, port]));
  const take = (name: string): TensorSpec | undefined => {
    const port = left.get(name);
    left.delete(name);
    return port && checked(file, port, IDS);
  };
  const ids = take('input_ids');
  const mask = take('attention_mask');
  const types = take('token_type_ids');
  const [unknown] = left.keys();
  if (!ids || unknown !== undefined) throw unsupportedInput(file, unknown ?? 'nothing called input_ids');
  const find = (...wanted: string[]) => wanted.map((name) => outputs.find((one) => one.name === name)).find(Boolean);
  const whole = find('sentence_embedding');
  const output = whole ?? find('last_hidden_state', 'token_embeddings', 'hidden_states') ?? outputs[0];
  const width = output?.shape.at(-1);
  if (!output) throw new StartupError('NotAModel', `${file} has no outputs: export it again.`);
  return {
    kind: 'embedding',
    ids,
    mask,
    types,
    output: checked(file, output, FLOATS),
    pooled: output.shape.length === 2,
    width: typeof width === 'number' ? width : 0,
  };
}

function checked(file: string, port: Port, types: readonly string[]): TensorSpec {
  if (types.includes(port.type)) return { name: port.name, type: port.type };
  throw new StartupError(
    'UnsupportedFormat',
    `${port.name} of ${file} has the type ${port.type}, and this server feeds ${types.join(' and ')}: use another variant of the model.`,
  );
}

function unsupportedInput(file: string, name: string): StartupError {
  return new StartupError(
    'UnsupportedArchitecture',
    `${file} wants the input ${name}, which this server does not know how to fill: use a text model with past_key_values of four dimensions, or a GGUF variant.`,
  );
}

function names(ports: readonly Port[]): string {
  return ports
    .slice(0, 4)
    .map(({ name }) => name)
    .join(', ');
}
