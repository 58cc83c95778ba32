/**
 * From a spec to a model that has answered once. Owns the order: engine, warm-up, template.
 */
import type { Config } from '../config.ts';
import type { EngineInfo, LoadObserver } from '../engines/engine.ts';
import { RevivingEngine } from '../engines/reviving-engine.ts';
import { loadEngine } from '../engines/select.ts';
import { StartupError } from '../failures.ts';
import { warmUp } from '../warm-up.ts';
import { type Loaded, makeLoadedModel } from './loaded-model.ts';
import type { ModelSpec } from './model-spec.ts';

/** @throws StartupError, with a sentence for whoever runs the server */
export async function loadModel(spec: ModelSpec, config: Config, observer: LoadObserver): Promise<Loaded> {
  const started = performance.now();
  const load = () => loadEngine(configFor(spec, config), observer);
  const engine = new RevivingEngine(await load(), load, (message) => observer.log('error', message));
  const { device, fallback } = engine.info;
  if (fallback !== undefined) observer.log('warn', fallback);
  const layers = spec.defaults.parameters.num_gpu ?? 0;
  if (layers > 0 && device.class === 'cpu')
    observer.log(
      'warn',
      `num_gpu ${layers} of the Modelfile: there is no GPU here, every layer is computed on the CPU`,
    );
  try {
    const tokensPerSecond = await warmUp(engine, spec.resident && config.minTokensPerSecond !== undefined);
    return makeLoadedModel(spec, engine, {
      tokensPerSecond,
      loadMs: performance.now() - started,
      loadedAt: new Date(),
    });
  } catch (error) {
    await engine.close();
    throw explained(error, device);
  }
}

/** A device may take a model and then be unable to compute it. */
function explained(error: unknown, { class: kind, backend, name }: EngineInfo['device']): unknown {
  if (error instanceof StartupError || kind === 'cpu') return error;
  const [said = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
  const cause = { cause: error };
  if (/out of (?:device )?memory|OutOfDeviceMemory|failed to allocate/i.test(said))
    return new StartupError(
      'InsufficientDeviceMemory',
      `the device (${name}) has not enough memory to compute with: lower engine.contextLength, engine.parallelRequests or engine.gpuLayers, or use a smaller variant of the model.`,
      cause,
    );
  return new StartupError(
    'UnsupportedFormat',
    `${backend} (${name}) cannot compute this model: ${said.replace(/\.$/, '')}; use a variant of the model that is made for this hardware, or other hardware.`,
    cause,
  );
}

/** The server's settings, with the model's own over them. */
export function configFor(spec: ModelSpec, config: Config): Config {
  const { adapters, parameters } = spec.defaults;
  const { num_ctx: context, num_batch: batch, num_thread: threads, num_gpu: layers } = parameters;
  // The memory of a server that was started for one model was computed from its settings: those win.
  const first = spec.resident ? config.contextLength : undefined;
  return {
    ...config,
    modelPath: spec.path,
    contextLength: first ?? spec.contextLength ?? context ?? config.contextLength,
    batchSize: batch === undefined ? config.batchSize : Math.max(batch, config.parallelRequests),
    threads: (spec.resident ? config.threads : undefined) ?? (threads || config.threads),
    // Less than nothing stands for as many as there are.
    gpuLayers:
      (spec.resident ? config.gpuLayers : undefined) ??
      (layers === undefined || layers < 0 ? config.gpuLayers : layers),
    adapters: [
      ...(spec.path === config.modelPath ? config.adapters : []),
      ...adapters.map((path) => ({ path, scale: 1 })),
    ],
  };
}
