/**
 * Completes the list of an ONNX model's files and reads what they say of it: genai_config.json names the graph, the graph names
 * its weights, config.json says the rest. Owns what can be known of a model before any node pulls it; writes nothing.
 */
import type { RepositoryFile } from './file-choice.ts';
import { SourceError } from './http-errors.ts';
import { besides, companionsOf, GENAI_CONFIG, likelyWeights, nameOf, settingsFolder } from './onnx-choice.ts';
import { looksLikeOnnx, type OnnxGraph, parseOnnxGraph } from './onnx-graph.ts';

/** What the files say; fields that they do not tell are absent. */
export interface OnnxFacts {
  readonly architecture?: string;
  readonly parameters?: number;
  readonly quantization?: string;
  /** Tokens that the model was trained for. */
  readonly contextLength?: number;
  readonly layers?: number;
  readonly hasChatTemplate: boolean;
  /** Bytes of graph and weights. */
  readonly weights: number;
  /** Bytes of KV cache for 1024 tokens, in the type that the graph keeps it in; 0 for a model that embeds. */
  readonly kvCachePer1kTokens?: number;
}

export interface OnnxModel {
  readonly files: readonly RepositoryFile[];
  /** Path of the graph. */
  readonly main: string;
  readonly facts: OnnxFacts;
}

/** Reads at most so many bytes from the beginning of a file. */
export type FileReader = (file: RepositoryFile, most: number) => Promise<Uint8Array>;

/**
 * Largest graph that is read whole, in bytes. Where the weights lie beside it, a graph has a few MiB; one that holds them may
 * have gigabytes, and is believed to be complete.
 */
const MAX_GRAPH = 32 * 1024 * 1024;
/** Most bytes of a file of settings. */
const MAX_SETTINGS = 4 * 1024 * 1024;

type Json = Readonly<Record<string, unknown>>;

/**
 * @param all what the repository holds
 * @param choice graph or genai_config.json, and the files that were chosen with it
 * @param where name of the repository for messages
 * @throws SourceError (NotFound, NotAModel, Truncated, and what reading gives)
 */
export async function readOnnxModel(
  all: readonly RepositoryFile[],
  choice: { readonly files: readonly RepositoryFile[]; readonly main: string },
  where: string,
  read: FileReader,
): Promise<OnnxModel> {
  const folder = settingsFolder(all, choice.main);
  const settings = async (name: string): Promise<Json | undefined> => {
    const file = all.find(({ path }) => path === (folder === '' ? name : `${folder}/${name}`));
    return file === undefined ? undefined : readSettings(file, where, read);
  };
  const genai = nameOf(choice.main) === GENAI_CONFIG ? ((await settings(GENAI_CONFIG)) ?? {}) : undefined;
  const graphPath = genai === undefined ? choice.main : graphOf(genai, choice.main, where);
  const graphFile = all.find(({ path }) => path === graphPath);
  if (graphFile === undefined) {
    throw failure(
      'NotFound',
      `${choice.main} of ${where} names ${nameOf(graphPath)}, which is not there: upload it beside ${GENAI_CONFIG}, or take another variant of the model`,
    );
  }
  const graph = await readGraph(graphFile, where, read);
  const weights = graph === undefined ? likelyWeights(all, graphPath) : weightsOf(graph, all, graphPath, where);
  const companions = companionsOf(all, choice.main);
  if (!companions.some(({ path }) => /^(?:tokenizer\.json|vocab\.txt)$/.test(nameOf(path)))) {
    throw failure(
      'NotAModel',
      `${where} holds no tokenizer.json for ${graphPath}, and without it no text can be read: export the model together with its tokenizer, or take another repository`,
    );
  }
  const facts = {
    ...factsOf({
      graph,
      graphPath,
      genai,
      config: await settings('config.json'),
      sentences: await settings('sentence_bert_config.json'),
      hasTemplate:
        companions.some(({ path }) => /^chat_template\.(?:jinja|json)$/.test(nameOf(path))) ||
        (await settings('tokenizer_config.json'))?.['chat_template'] !== undefined,
    }),
    weights: [graphFile, ...weights].reduce((sum, { size }) => sum + size, 0),
  };
  return { files: [...new Set([...choice.files, graphFile, ...weights])], main: graphPath, facts };
}

function graphOf(genai: Json, path: string, where: string): string {
  const decoder = at(at(genai, 'model'), 'decoder');
  const name = decoder?.['filename'];
  const graph = typeof name === 'string' && name !== '' ? besides(path, name) : undefined;
  if (graph !== undefined) return graph;
  throw failure(
    'NotAModel',
    `${path} of ${where} names no model.decoder.filename: only models of text in one graph are served; take another model or variant`,
  );
}

async function readGraph(file: RepositoryFile, where: string, read: FileReader): Promise<OnnxGraph | undefined> {
  const isWhole = file.size <= MAX_GRAPH;
  const bytes = await read(file, isWhole ? file.size : 1024);
  if (!isWhole && looksLikeOnnx(bytes)) return undefined;
  const parsed = parseOnnxGraph(bytes);
  if (parsed.kind === 'graph') return parsed.graph;
  throw failure('NotAModel', `${file.path} of ${where} is no ONNX model that can be served: ${parsed.message}`);
}

function weightsOf(
  graph: OnnxGraph,
  all: readonly RepositoryFile[],
  graphPath: string,
  where: string,
): readonly RepositoryFile[] {
  return graph.external.map(({ location, size }) => {
    const path = besides(graphPath, location);
    const file = all.find((candidate) => candidate.path === path);
    if (file === undefined) {
      throw failure(
        'NotFound',
        `${graphPath} of ${where} keeps its weights in ${location}, which is not there: upload ${location} beside it, or take another variant of the model`,
      );
    }
    if (file.size >= size) return file;
    throw failure(
      'Truncated',
      `${file.path} of ${where} has ${file.size} bytes, and ${nameOf(graphPath)} speaks of ${size}: the file is cut off. Upload it again, whole`,
    );
  });
}

interface Said {
  readonly graph: OnnxGraph | undefined;
  readonly graphPath: string;
  readonly genai: Json | undefined;
  readonly config: Json | undefined;
  /** Of sentence-transformers: how much of a text is looked at. */
  readonly sentences: Json | undefined;
  readonly hasTemplate: boolean;
}

function factsOf({ graph, graphPath, genai, config, sentences, hasTemplate }: Said): Omit<OnnxFacts, 'weights'> {
  const model = at(genai, 'model');
  const decoder = at(model, 'decoder');
  const architecture = model?.['type'] ?? config?.['model_type'];
  const layers = first(decoder, 'num_hidden_layers') ?? first(config, 'num_hidden_layers', 'n_layer', 'num_layers');
  const contextLength =
    first(sentences, 'max_seq_length') ??
    first(model, 'context_length') ??
    first(config, 'max_position_embeddings', 'n_positions', 'max_sequence_length', 'n_ctx');
  const quantization =
    graph === undefined ? /_(q4f16|q4|int8|uint8|fp16|quantized)\.onnx$/.exec(graphPath)?.[1] : graph.quantization;
  const perToken = graph?.cachePerToken ?? cacheFromSettings(decoder, config, layers);
  return {
    ...(typeof architecture === 'string' ? { architecture } : {}),
    ...(graph !== undefined && graph.parameters > 0 ? { parameters: graph.parameters } : {}),
    ...(quantization === undefined
      ? {}
      : { quantization: quantization === 'quantized' ? 'INT8' : quantization.toUpperCase() }),
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(layers === undefined ? {} : { layers }),
    hasChatTemplate: hasTemplate,
    ...(perToken === undefined ? {} : { kvCachePer1kTokens: perToken * 1024 }),
  };
}

/** Four bytes a number, as most graphs for CPUs keep their cache. */
function cacheFromSettings(
  decoder: Json | undefined,
  config: Json | undefined,
  layers: number | undefined,
): number | undefined {
  const heads = first(decoder, 'num_attention_heads') ?? first(config, 'num_attention_heads', 'n_head');
  const kept = first(decoder, 'num_key_value_heads') ?? first(config, 'num_key_value_heads') ?? heads;
  const hidden = first(decoder, 'hidden_size') ?? first(config, 'hidden_size', 'n_embd');
  const width =
    first(decoder, 'head_size') ?? first(config, 'head_dim') ?? (hidden ?? Number.NaN) / (heads ?? Number.NaN);
  if (layers === undefined || kept === undefined || !Number.isFinite(width)) return undefined;
  return Math.ceil(layers * 2 * kept * width * 4);
}

async function readSettings(file: RepositoryFile, where: string, read: FileReader): Promise<Json> {
  if (file.size <= MAX_SETTINGS) {
    try {
      const value: unknown = JSON.parse(Buffer.from(await read(file, file.size)).toString('utf8'));
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  throw failure('NotAModel', `${file.path} of ${where} is no JSON object of a sensible size: upload the model again`);
}

/** The object under a key. */
function at(json: Json | undefined, key: string): Json | undefined {
  const value = json?.[key];
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

/** The first of these keys that holds a whole number above 0. */
function first(json: Json | undefined, ...keys: readonly string[]): number | undefined {
  for (const key of keys) {
    const value = json?.[key];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  }
  return undefined;
}

function failure(reason: 'NotFound' | 'NotAModel' | 'Truncated', message: string): SourceError {
  return new SourceError({ reason, message, terminal: true });
}
