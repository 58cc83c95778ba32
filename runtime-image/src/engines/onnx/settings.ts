/** What an ONNX model's configuration files say of it: context, ends, template, pooling. Pure but for reading them. */
import type { Token } from '../../scheduling/decoder.ts';
import { type Json, numberAt, numbersAt, objectAt, readJson, readText, textAt } from './json.ts';
import type { ModelFiles } from './model-folder.ts';
import type { TextTokenizer } from './tokenizer.ts';

/** Names under which models of many families end a turn, beside what their files say: files forget them often. */
const ENDS = ['<|im_end|>', '<|eot_id|>', '<|end|>', '<|endoftext|>', '<end_of_turn>', '<|end_of_text|>', '</s>'];

const PHI_BORDER = 4096;

export interface ModelConfigs {
  readonly config: Json | undefined;
  readonly generation: Json | undefined;
}

export async function readConfigs({ folder }: ModelFiles): Promise<ModelConfigs> {
  return {
    config: await readJson(folder, 'config.json'),
    generation: await readJson(folder, 'generation_config.json'),
  };
}

/** Tokens of context that the model was trained for; undefined where no file says. */
export function trainedContext(files: ModelFiles, { config }: ModelConfigs): number | undefined {
  return (
    numberAt(objectAt(files.genai, 'model'), 'context_length') ??
    numberAt(config, 'max_position_embeddings', 'n_positions', 'n_ctx', 'max_seq_len')
  );
}

/**
 * Tokens of context up to which the model computes one way, and another beyond (long RoPE): what was computed before that
 * border cannot be used after it.
 */
export function contextBorder(files: ModelFiles, { config }: ModelConfigs): number | undefined {
  const type = textAt(objectAt(files.genai, 'model'), 'type') ?? '';
  // The layout does not say where the border is; onnxruntime-genai has this number in its code.
  if (type.startsWith('phi') && [...files.proto.producers.values()].includes('If')) return PHI_BORDER;
  const scaling = objectAt(config, 'rope_scaling');
  const kind = textAt(scaling, 'rope_type') ?? textAt(scaling, 'type');
  if (kind !== 'longrope' && kind !== 'su') return undefined;
  return numberAt(scaling, 'original_max_position_embeddings') ?? numberAt(config, 'original_max_position_embeddings');
}

export function architecture(files: ModelFiles, { config }: ModelConfigs): string {
  return textAt(objectAt(files.genai, 'model'), 'type') ?? textAt(config, 'model_type') ?? 'unknown';
}

export function hiddenSize(files: ModelFiles, { config }: ModelConfigs): number {
  return (
    numberAt(objectAt(files.genai, 'model', 'decoder'), 'hidden_size') ?? numberAt(config, 'hidden_size', 'n_embd') ?? 0
  );
}

/** Tokens that end an answer. */
export function endTokens(
  files: ModelFiles,
  { config, generation }: ModelConfigs,
  tokenizer: TextTokenizer,
): ReadonlySet<Token> {
  const found = new Set<Token>();
  for (const json of [objectAt(files.genai, 'model'), config, generation])
    for (const id of numbersAt(json, 'eos_token_id')) found.add(id);
  for (const text of [tokenizer.eosToken, ...ENDS]) {
    const id = tokenizer.idOf(text);
    if (id !== undefined && tokenizer.isSpecial(id)) found.add(id);
  }
  return found;
}

/** The Jinja source of the model's chat template, wherever its exporter put it. */
export async function chatTemplate(folder: string, tokenizerConfig: Json): Promise<string | undefined> {
  const file = await readText(folder, 'chat_template.jinja');
  if (file !== undefined) return file;
  const own = tokenizerConfig['chat_template'];
  if (typeof own === 'string') return own;
  if (Array.isArray(own)) {
    const named = own as Json[];
    const template = textAt(named.find((one) => one['name'] === 'default') ?? named[0], 'template');
    if (template !== undefined) return template;
  }
  return textAt(await readJson(folder, 'chat_template.json'), 'chat_template');
}

/** How the vectors of a text's tokens become one. */
export type Pooling = 'mean' | 'cls' | 'last' | 'max' | 'mean-sqrt' | 'weighted-mean';

export interface EmbeddingSettings {
  readonly pooling: Pooling;
  /** Tokens that a text may have, with those around it. */
  readonly longest: number;
}

/** As sentence-transformers writes them down; the mean where nothing is said. */
export async function embeddingSettings(
  files: ModelFiles,
  configs: ModelConfigs,
  tokenizerConfig: Json,
): Promise<EmbeddingSettings & { readonly unknown: string | undefined }> {
  const { folder } = files;
  const listed = await readText(folder, 'modules.json');
  const modules = listed === undefined ? [] : modulesOf(listed);
  const own = modules.find(({ type }) => type.endsWith('Pooling'));
  const pooling = await readJson(folder, `${own?.path ?? '1_Pooling'}/config.json`);
  const modes: readonly (readonly [key: string, pooling: Pooling])[] = [
    ['pooling_mode_cls_token', 'cls'],
    ['pooling_mode_max_tokens', 'max'],
    ['pooling_mode_mean_sqrt_len_tokens', 'mean-sqrt'],
    ['pooling_mode_weightedmean_tokens', 'weighted-mean'],
    ['pooling_mode_lasttoken', 'last'],
    ['pooling_mode_mean_tokens', 'mean'],
  ];
  const limits = [
    numberAt(await readJson(folder, 'sentence_bert_config.json'), 'max_seq_length'),
    numberAt(tokenizerConfig, 'model_max_length'),
    trainedContext(files, configs),
  ].filter((limit): limit is number => limit !== undefined && limit > 0);
  const unknown = modules.map(({ type }) => type.split('.').at(-1) ?? '');
  return {
    pooling: modes.find(([key]) => pooling?.[key] === true)?.[1] ?? 'mean',
    longest: Math.min(...limits, 8192),
    unknown: unknown.find((type) => !['Transformer', 'Pooling', 'Normalize'].includes(type)),
  };
}

function modulesOf(text: string): { readonly type: string; readonly path: string }[] {
  try {
    const list: unknown = JSON.parse(text);
    return (Array.isArray(list) ? (list as Json[]) : []).map((one) => ({
      type: textAt(one, 'type') ?? '',
      path: textAt(one, 'path') ?? '',
    }));
  } catch {
    return [];
  }
}
