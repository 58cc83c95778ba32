/**
 * The one place that decides which engine serves a model: by what the files are, unless the configuration says.
 */
import { readdir } from 'node:fs/promises';
import type { Config } from '../config.ts';
import { StartupError } from '../failures.ts';
import { cgroupCpuLimit, computeThreads } from '../threads.ts';
import type { Engine, LoadObserver } from './engine.ts';
import type { LlamaCppOptions } from './llama-cpp/engine.ts';
import { findGguf, isFolder } from './llama-cpp/model-file.ts';

/** Models, and the file that says which of several files is one. */
const ONNX_FILE = /(\.onnx|(^|[/\\])genai_config\.json)$/i;

/**
 * Loads the model that the configuration names.
 * @throws StartupError
 */
export async function loadEngine(config: Config, observer: LoadObserver): Promise<Engine> {
  if (config.engine === 'fake') {
    const { createFakeEngine } = await import('./fake.ts');
    return createFakeEngine({
      parallelRequests: config.parallelRequests,
      batchSize: config.batchSize,
      maxQueue: config.maxQueue,
      ...(config.contextLength === undefined ? {} : { contextLength: config.contextLength }),
    });
  }
  if (await isOnnx(config)) return loadOnnxModel(config, observer);
  const file = await modelFile(config.modelPath);
  return loadGguf(
    config,
    {
      file,
      contextLength: config.contextLength,
      parallelRequests: config.parallelRequests,
      batchSize: config.batchSize,
      threads: config.threads ?? computeThreads(cgroupCpuLimit()),
      devices: config.devices,
      gpuLayers: config.gpuLayers,
      flashAttention: config.flashAttention,
      kvCacheType: config.kvCacheType,
      maxQueue: config.maxQueue,
      promptCacheBytes: config.promptCacheBytes,
      mostGuesses: config.mostGuesses,
      adapters: config.adapters,
    },
    observer,
  );
}

/** With the library's insides as we know them, and with its public API where they are not so. */
async function loadGguf(config: Config, options: LlamaCppOptions, observer: LoadObserver): Promise<Engine> {
  const loadPublicly = async () => (await import('./llama-cpp/public-engine.ts')).loadPublicly(options, observer);
  if (config.engine === 'llama-cpp-public') return loadPublicly();
  const { loadLlamaCpp } = await import('./llama-cpp/engine.ts');
  try {
    return await loadLlamaCpp(options, observer);
  } catch (error) {
    if (!(error instanceof StartupError) || error.reason !== 'EngineMismatch') throw error;
    observer.log(
      'warn',
      `${error.message} Until then the library's public API is used: slower, and without log probabilities.`,
    );
    return loadPublicly().catch(() => {
      throw error;
    });
  }
}

async function loadOnnxModel(config: Config, observer: LoadObserver): Promise<Engine> {
  const unused = [
    ...(config.kvCacheType === 'F16' ? [] : [`the KV cache type ${config.kvCacheType}`]),
    ...(config.flashAttention === 'Enabled' ? ['flash attention'] : []),
    ...(config.mostGuesses > 0 ? ['speculation'] : []),
    ...(config.adapters.length > 0 ? ['LoRA adapters'] : []),
  ];
  if (unused.length > 0)
    throw new StartupError(
      'InvalidConfiguration',
      `${unused.join(' and ')} cannot be chosen for an ONNX model, whose file decides: leave it out, or use a GGUF variant of the model.`,
    );
  const { loadOnnx } = await import('./onnx/engine.ts');
  return loadOnnx(
    {
      modelPath: config.modelPath,
      contextLength: config.contextLength,
      parallelRequests: config.parallelRequests,
      batchSize: config.batchSize,
      threads: config.threads ?? computeThreads(cgroupCpuLimit()),
      devices: config.devices,
      maxQueue: config.maxQueue,
      promptCacheBytes: config.promptCacheBytes,
    },
    observer,
  );
}

/** A folder with both is GGUF's: that is the format for which this server has more to offer. */
async function isOnnx(config: Config): Promise<boolean> {
  if (config.engine !== undefined) return config.engine === 'onnx';
  if (ONNX_FILE.test(config.modelPath)) return true;
  if (!(await isFolder(config.modelPath))) return false;
  const names = await readdir(config.modelPath, { recursive: true });
  return names.some((name) => ONNX_FILE.test(name)) && !names.some((name) => /\.gguf$/i.test(name));
}

async function modelFile(modelPath: string): Promise<string> {
  if (!(await isFolder(modelPath))) return modelPath;
  const file = await findGguf(modelPath);
  if (file !== undefined) return file;
  const names = await readdir(modelPath, { recursive: true });
  throw new StartupError(
    'NotAModel',
    `${modelPath} holds no GGUF file and no ONNX model (found: ${names.slice(0, 5).join(', ') || 'nothing'}): check source.uri and source.files.`,
  );
}
