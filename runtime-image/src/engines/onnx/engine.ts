/**
 * Loads an ONNX model into an engine. Owns the order of the steps and what the engine says of itself; the computing is done
 * on a thread of its own.
 */
import { AUTO, type DeviceOrder, fellBack } from '../../devices.ts';
import { StartupError } from '../../failures.ts';
import { BatchedEngine, type Embedder, type Vocabulary } from '../batched-engine.ts';
import { type Engine, GrammarError, type LoadObserver, type ModelInfo, UnsupportedError } from '../engine.ts';
import { ByteGrammar } from '../sampling/byte-grammar.ts';
import { packVocabulary } from '../sampling/token-order.ts';
import { OnnxDecoder } from './decoder.ts';
import { OnnxEmbedder } from './embedder.ts';
import { explainLoadFailure } from './explain.ts';
import type { Opened } from './messages.ts';
import { findModel, type ModelFiles } from './model-folder.ts';
import { specOf } from './model-spec.ts';
import { isFallback, reportDevice } from './providers.ts';
import {
  architecture,
  chatTemplate,
  contextBorder,
  embeddingSettings,
  endTokens,
  hiddenSize,
  type ModelConfigs,
  readConfigs,
  trainedContext,
} from './settings.ts';
import { ThreadClient } from './thread-client.ts';
import { readTokenizer, TextTokenizer } from './tokenizer.ts';

/** Tokens of context for each request when nobody says: enough for chats, and little memory. */
const DEFAULT_CONTEXT = 4096;
/** Tokens of a prompt that are computed at once, at most: more win nothing on a CPU, and an abort waits for them. */
const LARGEST_BATCH = 256;

export interface OnnxOptions {
  /** A folder, or an .onnx file in one. */
  readonly modelPath: string;
  /** Undefined: min(the model's own, 4096). */
  readonly contextLength: number | undefined;
  readonly parallelRequests: number;
  readonly batchSize: number;
  readonly threads: number;
  /** What to compute on, the best first. Default: a GPU if the image is made for one. */
  readonly devices?: DeviceOrder;
  readonly maxQueue: number;
  /** Memory for prompts whose slot is gone, in bytes. Default 0: none. */
  readonly promptCacheBytes?: number;
}

/**
 * Loads the model.
 * @throws StartupError
 */
export async function loadOnnx(options: OnnxOptions, observer: LoadObserver): Promise<Engine> {
  const files = await findModel(options.modelPath);
  const configs = await readConfigs(files);
  const spec = specOf(files, configs.config);
  const tokenizerFiles = await readTokenizer(files.folder);
  const tokenizer = new TextTokenizer(tokenizerFiles);
  observer.progress(0.1);

  const embedding = await embeddingSettings(files, configs, tokenizerFiles.config);
  if (spec.kind === 'embedding' && !spec.pooled && embedding.unknown !== undefined)
    throw new StartupError(
      'UnsupportedArchitecture',
      `modules.json lists ${embedding.unknown} after the pooling, which this server does not compute: export the model with the output sentence_embedding.`,
    );
  const trained = spec.kind === 'language' ? (trainedContext(files, configs) ?? DEFAULT_CONTEXT) : embedding.longest;
  const context = contextLength(options.contextLength, trained, spec.kind, contextBorder(files, configs));
  const ends = endTokens(files, configs, tokenizer);
  const batchSize = Math.max(options.parallelRequests, Math.min(options.batchSize, LARGEST_BATCH));
  const devices = options.devices ?? AUTO;
  const thread = await ThreadClient.start({
    file: files.file,
    devices,
    spec,
    threads: options.threads,
    slots: options.parallelRequests,
    contextLength: context,
    endTokens: [...ends],
    pooling: embedding.pooling,
  });
  let opened: Opened;
  try {
    opened = await thread.call('open');
  } catch (error) {
    await thread.close();
    throw explainLoadFailure(files.file, error as Error);
  }
  const device = reportDevice(opened.provider);
  observer.progress(1);

  const generates = spec.kind === 'language';
  const vocabularySize = spec.kind === 'language' ? spec.vocabularySize : 0;
  const template = generates ? await chatTemplate(files.folder, tokenizerFiles.config) : undefined;
  return new BatchedEngine({
    info: {
      engine: 'onnx',
      device,
      ...(isFallback(opened.provider, devices) ? { fallback: fellBack(devices, opened.missed) } : {}),
      backend: `onnxruntime ${opened.version} (${device.executionProvider})`,
      threads: options.threads,
      contextLength: context,
      parallelRequests: options.parallelRequests,
      batchSize,
      capabilities: { generate: generates, embed: !generates, grammar: generates, logprobs: generates },
      model: {
        ...describe(files, configs, trained),
        embeddingLength: (spec.kind === 'embedding' && spec.width) || hiddenSize(files, configs),
        vocabularySize,
        ...(template === undefined ? {} : { chatTemplate: template }),
        bosToken: tokenizer.bosToken,
        eosToken: tokenizer.eosToken,
      },
    },
    decoder: new OnnxDecoder(thread, {
      slots: options.parallelRequests,
      contextLength: context,
      batchSize,
      vocabulary: () => packVocabulary(vocabularySize, (token) => tokenizer.textBytes(token)),
    }),
    vocabulary: vocabularyOf(tokenizer, ends),
    embedder: generates ? NO_EMBEDDINGS : new OnnxEmbedder(thread, tokenizer, context, options.maxQueue),
    checkGrammar: makeGrammarCheck(),
    maxQueue: options.maxQueue,
    promptCacheBytes: options.promptCacheBytes ?? 0,
    dispose: () => thread.close(),
  });
}

/** Grammars that were found good: clients send the same few again and again. */
const KEPT_CHECKS = 64;

/** @returns what throws GrammarError for a grammar that the thread could not follow */
function makeGrammarCheck(): (gbnf: string) => void {
  const good = new Set<string>();
  return (gbnf) => {
    if (good.has(gbnf)) return;
    // Reading it finds every fault but one: that it becomes ambiguous later on.
    const { start } = new ByteGrammar(gbnf);
    if (start.positions.length === 0 && !start.complete) throw new GrammarError('the grammar allows no answer at all');
    good.add(gbnf);
    const [oldest] = good;
    if (good.size > KEPT_CHECKS && oldest !== undefined) good.delete(oldest);
  };
}

const NO_EMBEDDINGS: Embedder = {
  embed: () =>
    Promise.reject(new UnsupportedError('embed', 'this ONNX model gives no embeddings: use one that embeds')),
};

function vocabularyOf(tokenizer: TextTokenizer, ends: ReadonlySet<number>): Vocabulary {
  return {
    tokenize: (text, special) => tokenizer.tokenize(text, special),
    detokenize: tokenizer.detokenize,
    isEndOfGeneration: (token) => ends.has(token),
    beginning: tokenizer.frame.begin,
    bytesOf: (token) => tokenizer.bytesOf(token),
    controlTokens: () => tokenizer.controlTokens(),
  };
}

/** Names of precisions as they are written for GGUF: in capitals. */
const PRECISIONS: Record<string, string> = { float32: 'FP32', float16: 'FP16', bfloat16: 'BF16' };

function describe(
  files: ModelFiles,
  configs: ModelConfigs,
  trained: number,
): Pick<ModelInfo, 'format' | 'architecture' | 'parameters' | 'quantization' | 'size' | 'trainedContextLength'> {
  const { parameters, precision } = files.proto;
  return {
    format: 'onnx',
    architecture: architecture(files, configs),
    parameters,
    quantization: PRECISIONS[precision] ?? precision.toUpperCase(),
    size: files.size,
    trainedContextLength: trained,
  };
}

function contextLength(
  wanted: number | undefined,
  trained: number,
  kind: 'language' | 'embedding',
  border: number | undefined,
): number {
  // A text that is embedded is seen as a whole: the model's own length is the limit, and memory is no question.
  if (kind === 'embedding') return Math.min(wanted ?? trained, trained);
  if (wanted === undefined) return Math.min(trained, DEFAULT_CONTEXT, border ?? trained);
  if (wanted > trained)
    throw new StartupError(
      'ContextTooLong',
      `a context of ${wanted} tokens is more than the ${trained} that the model was trained for: ` +
        `set engine.contextLength to ${trained} or less.`,
    );
  if (border !== undefined && wanted > border)
    throw new StartupError(
      'ContextTooLong',
      `this ONNX model computes positions anew beyond ${border} tokens, which would spoil what was computed before: ` +
        `set engine.contextLength to ${border} or less, or use a GGUF variant of the model.`,
    );
  return wanted;
}
