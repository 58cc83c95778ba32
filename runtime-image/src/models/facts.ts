/**
 * What a model's files say of it before it is loaded: for lists of models, and for how much memory it will take. Reads
 * headers only, each once.
 */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { EngineInfo } from '../engines/engine.ts';
import { readGgufHeader } from '../engines/llama-cpp/gguf-header.ts';
import { findGguf } from '../engines/llama-cpp/model-file.ts';
import { sizeOnDisk } from './memory.ts';

export interface ModelFacts {
  /** gguf or onnx. */
  readonly format: string;
  /** Empty when unknown. */
  readonly architecture: string;
  /** Number of weights, 0 when unknown. */
  readonly parameters: number;
  /** Such as Q4_1. */
  readonly quantization: string;
  /** Bytes on disk. */
  readonly size: number;
  readonly modifiedAt: Date;
  /** Jinja source. */
  readonly chatTemplate?: string;
  readonly trainedContextLength: number;
  readonly embeddingLength: number;
  /** Numbers that each token leaves in the KV cache, of all layers; 0 when unknown. */
  readonly kvValuesPerToken: number;
  /** Everything that the file's header says, but for its vocabulary, under GGUF's names. */
  readonly header: Readonly<Record<string, unknown>>;
}

/** Short ones are read, and still nobody wants to see them. */
const VOCABULARY: ReadonlySet<string> = new Set(
  ['tokens', 'scores', 'token_type', 'merges', 'added_tokens', 'precompiled_charsmap'].map(
    (name) => `tokenizer.ggml.${name}`,
  ),
);

/** llama.cpp's numbers for what most tensors of a file are. */
const FILE_TYPES = new Map(
  Object.entries({
    0: 'F32',
    1: 'F16',
    2: 'Q4_0',
    3: 'Q4_1',
    7: 'Q8_0',
    8: 'Q5_0',
    9: 'Q5_1',
    10: 'Q2_K',
    11: 'Q3_K_S',
    12: 'Q3_K_M',
    13: 'Q3_K_L',
    14: 'Q4_K_S',
    15: 'Q4_K_M',
    16: 'Q5_K_S',
    17: 'Q5_K_M',
    18: 'Q6_K',
    19: 'IQ2_XXS',
    20: 'IQ2_XS',
    21: 'Q2_K_S',
    22: 'IQ3_XS',
    23: 'IQ3_XXS',
    24: 'IQ1_S',
    25: 'IQ4_NL',
    26: 'IQ3_S',
    27: 'IQ3_M',
    28: 'IQ2_S',
    29: 'IQ2_M',
    30: 'IQ4_XS',
    31: 'IQ1_M',
    32: 'BF16',
    36: 'TQ1_0',
    37: 'TQ2_0',
    38: 'MXFP4_MOE',
  }),
);

const known = new Map<string, { readonly stamp: string; readonly facts: Promise<ModelFacts> }>();

/**
 * Reads a model's header; again only after the file changed.
 * @param file a file, or a folder with one model
 * @throws Error for what is no model
 */
export async function readFacts(file: string): Promise<ModelFacts> {
  const found = await stat(file);
  const main = found.isDirectory() ? ((await findGguf(file)) ?? file) : file;
  const { mtime, size, isFolder } = await stat(main).then((one) => ({
    mtime: one.mtime,
    size: one.size,
    isFolder: one.isDirectory(),
  }));
  const stamp = `${mtime.getTime()} ${size}`;
  const before = known.get(main);
  if (before?.stamp === stamp) return before.facts;
  const facts = isFolder || main.endsWith('.onnx') ? onnxFacts(main, mtime) : ggufFacts(main, mtime);
  known.set(main, { stamp, facts });
  facts.catch(() => known.delete(main));
  return facts;
}

/** What a loaded engine knows, where no header was read. */
export function factsOf(info: EngineInfo, modifiedAt: Date): ModelFacts {
  const { model } = info;
  const { architecture } = model;
  return {
    ...model,
    modifiedAt,
    kvValuesPerToken: 0,
    header: {
      'general.architecture': architecture,
      'general.parameter_count': model.parameters,
      [`${architecture}.context_length`]: model.trainedContextLength,
      [`${architecture}.embedding_length`]: model.embeddingLength,
      [`${architecture}.vocab_size`]: model.vocabularySize,
    },
  };
}

async function ggufFacts(file: string, modifiedAt: Date): Promise<ModelFacts> {
  const parts = partsOf(file);
  const [first, ...others] = await Promise.all(parts.map(readGgufHeader));
  const known = [...(first?.values ?? [])].filter(([key]) => !VOCABULARY.has(key));
  const header: Record<string, unknown> = Object.fromEntries(known);
  const architecture = text(header['general.architecture']);
  const own = (name: string) => header[`${architecture}.${name}`];
  const parameters = [...(first?.tensors ?? []), ...others.flatMap((part) => part.tensors)].reduce(
    (sum, tensor) => sum + tensor.elements,
    0,
  );
  const embeddingLength = number(own('embedding_length'));
  const sizes = await Promise.all(parts.map(sizeOnDisk));
  const chatTemplate = header['tokenizer.chat_template'];
  return {
    format: 'gguf',
    architecture,
    parameters,
    quantization: FILE_TYPES.get(String(header['general.file_type'])) ?? 'unknown',
    size: sizes.reduce((sum, size) => sum + size, 0),
    modifiedAt,
    ...(typeof chatTemplate === 'string' ? { chatTemplate } : {}),
    trainedContextLength: number(own('context_length')),
    embeddingLength,
    kvValuesPerToken: kvValues(own, embeddingLength),
    header: { ...header, 'general.parameter_count': parameters },
  };
}

/** Keys and values of each layer's heads. */
function kvValues(own: (name: string) => unknown, embeddingLength: number): number {
  const layers = number(own('block_count'));
  const heads = number(own('attention.head_count'));
  if (layers === 0 || heads === 0) return 0;
  const given = own('attention.head_count_kv');
  const perLayer = Array.isArray(given) ? given.map(number) : undefined;
  const kvHeads = perLayer ? perLayer.reduce((sum, one) => sum + one, 0) : layers * (number(given) || heads);
  const keys = number(own('attention.key_length')) || embeddingLength / heads;
  const values = number(own('attention.value_length')) || embeddingLength / heads;
  return kvHeads * (keys + values);
}

/** The files of a split model; any other is its only part. */
function partsOf(file: string): string[] {
  const [, stem = '', count = '1'] = /^(.*)-0*1-of-(\d+)\.gguf$/i.exec(file) ?? [];
  if (stem === '') return [file];
  return Array.from(
    { length: Number(count) },
    (_, index) => `${stem}-${String(index + 1).padStart(5, '0')}-of-${count}.gguf`,
  );
}

async function onnxFacts(main: string, modifiedAt: Date): Promise<ModelFacts> {
  const folder = main.endsWith('.onnx') ? path.dirname(main) : main;
  const read = async (name: string): Promise<Record<string, unknown>> => {
    try {
      return JSON.parse(await readFile(path.join(folder, name), 'utf8')) as Record<string, unknown>;
    } catch {
      return {};
    }
  };
  const [config, genai] = await Promise.all([read('config.json'), read('genai_config.json')]);
  const model = (genai['model'] ?? {}) as Record<string, unknown>;
  const decoder = (model['decoder'] ?? {}) as Record<string, unknown>;
  const heads = number(config['num_attention_heads']) || number(decoder['num_attention_heads']);
  const hidden = number(config['hidden_size']) || number(decoder['hidden_size']);
  const layers = number(config['num_hidden_layers']) || number(decoder['num_hidden_layers']);
  const kvHeads = number(config['num_key_value_heads']) || number(decoder['num_key_value_heads']) || heads;
  const headSize = number(config['head_dim']) || number(decoder['head_size']) || (heads ? hidden / heads : 0);
  const architecture = text(model['type']) || text(config['model_type']);
  const trainedContextLength = number(config['max_position_embeddings']) || number(model['context_length']);
  return {
    format: 'onnx',
    architecture,
    parameters: 0,
    quantization: 'unknown',
    size: await sizeOnDisk(folder),
    modifiedAt,
    trainedContextLength,
    embeddingLength: hidden,
    // Kept as 32-bit numbers: twice what the estimate takes for one.
    kvValuesPerToken: 2 * 2 * layers * kvHeads * headSize,
    header: {
      'general.architecture': architecture,
      [`${architecture}.context_length`]: trainedContextLength,
      [`${architecture}.embedding_length`]: hidden,
      [`${architecture}.block_count`]: layers,
    },
  };
}

function number(value: unknown): number {
  const read = Number(value ?? 0);
  return Number.isFinite(read) ? read : 0;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
