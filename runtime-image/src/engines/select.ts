/**
 * The one place that decides which engine serves a model: by what the files are, unless the configuration says.
 */
import { readdir } from 'node:fs/promises';
import type { Config } from '../config.ts';
import { StartupError } from '../failures.ts';
import { cgroupCpuLimit, computeThreads } from '../threads.ts';
import type { Engine, LoadObserver } from './engine.ts';
import { findGguf, isFolder } from './llama-cpp/model-file.ts';

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
  if (config.engine === 'onnx') throw onnxRefused('SLM_ENGINE=onnx');
  const file = await modelFile(config.modelPath);
  const { loadLlamaCpp } = await import('./llama-cpp/engine.ts');
  return loadLlamaCpp(
    {
      file,
      contextLength: config.contextLength,
      parallelRequests: config.parallelRequests,
      batchSize: config.batchSize,
      threads: config.threads ?? computeThreads(cgroupCpuLimit()),
      flashAttention: config.flashAttention,
      kvCacheType: config.kvCacheType,
      maxQueue: config.maxQueue,
      promptCacheBytes: config.promptCacheBytes,
    },
    observer,
  );
}

async function modelFile(modelPath: string): Promise<string> {
  if (/\.onnx$/i.test(modelPath)) throw onnxRefused(modelPath);
  if (!(await isFolder(modelPath))) return modelPath;
  const file = await findGguf(modelPath);
  if (file !== undefined) return file;
  const names = await readdir(modelPath, { recursive: true });
  const onnx = names.find((name) => name.endsWith('genai_config.json') || name.endsWith('.onnx'));
  if (onnx !== undefined) throw onnxRefused(onnx);
  throw new StartupError(
    'NotAModel',
    `${modelPath} holds no GGUF file (found: ${names.slice(0, 5).join(', ') || 'nothing'}): check source.uri and source.files.`,
  );
}

function onnxRefused(what: string): StartupError {
  return new StartupError(
    'UnsupportedFormat',
    `this server does not serve ONNX models yet (${what}): use the GGUF variant of the model.`,
  );
}
