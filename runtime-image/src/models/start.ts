/**
 * The server's models, put together from its settings, and the loads that readiness waits for.
 */
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { StartupError } from '../failures.ts';
import type { Lifecycle, Unfit } from '../lifecycle.ts';
import { readFacts } from './facts.ts';
import { configFor, loadModel } from './load.ts';
import type { LoadedModel } from './loaded-model.ts';
import { estimateBytes, memoryLimit } from './memory.ts';
import type { ModelEntry } from './model-entry.ts';
import type { ModelSpec } from './model-spec.ts';
import { ModelRegistry } from './registry.ts';
import { firstModel, listedModels, modelsIn } from './sources.ts';
import { ModelStore } from './store/store.ts';

/** Steps of the load that are worth a log line. */
const PROGRESS_STEP = 0.25;
/** Tokens of context for each request when nobody says; as the engines have it. */
const DEFAULT_CONTEXT = 4096;

/**
 * Knows at once the model that the server is about; the others are found by `startModels`, or when somebody asks for them.
 * @throws StartupError for a Modelfile that cannot be read
 */
export async function openModels(config: Config, log: Logger): Promise<ModelRegistry> {
  const { dir, maxLoaded, loadTimeoutMs, keepAliveMs } = config.models;
  const fixed = [...(await firstModel(config)), ...(await listedModels(config.models.list))];
  // A server of one model never weighs it against others.
  const told = new Set<string>();
  const alone = fixed.length === 1 && dir === undefined;
  return new ModelRegistry(fixed, {
    load: (spec, observer) =>
      loadModel(spec, config, {
        ...observer,
        log: (level, message) => log[level]({ from: 'llama.cpp', model: spec.names[0] }, message),
      }),
    ...(alone
      ? {}
      : {
          estimate: (spec: ModelSpec) => estimate(spec, config),
          maxMemory: config.models.maxMemory ?? (await memoryLimit()),
        }),
    maxLoaded,
    loadTimeoutMs,
    ...(keepAliveMs === undefined ? {} : { keepAliveMs }),
    ...(dir === undefined
      ? {}
      : {
          refresh: async () => {
            const report = (problem: string) => {
              // The folder is looked through again and again.
              if (!told.has(problem)) log.warn({ dir }, problem);
              told.add(problem);
            };
            const found = [...(await modelsIn(dir, report)), ...(await new ModelStore(dir).specs(report))];
            const taken = new Set(fixed.flatMap((spec) => spec.names));
            return [...fixed, ...found.filter((spec) => !spec.names.some((name) => taken.has(name)))];
          },
        }),
    log,
  });
}

/** What clients may change; undefined: nothing. */
export function managementOf({ models }: Config): { store: ModelStore; registries: readonly string[] } | undefined {
  const { management, dir, registries } = models;
  return management && dir !== undefined ? { store: new ModelStore(dir), registries } : undefined;
}

/**
 * Loads what readiness waits for.
 * @param started when the process started, by performance.now()
 * @throws StartupError
 */
export async function startModels(config: Config, lifecycle: Lifecycle, log: Logger, started: number): Promise<void> {
  const { models } = lifecycle;
  if (models.primary) await startFirst(models.primary, config, lifecycle, log, started);
  await models.refresh();
  // The first model stays only where nobody says how long; it is loaded at start either way.
  const first = models.primary || config.modelPath === '' ? [] : [config.servedNames[0]];
  for (const name of [...first, ...config.models.preload]) {
    const entry = models.find(name);
    if (!entry) {
      const names = models.entries.map((one) => one.name).join(', ') || 'none';
      throw new StartupError(
        'ModelNotFound',
        `SLM_PRELOAD names ${name}, and there is no such model (there are: ${names}).`,
      );
    }
    if (entry.loaded) continue;
    const use = await models.use(entry).catch((error: Error) => {
      throw new StartupError('ModelLoadFailed', `${error.message}.`, { cause: error });
    });
    use.release();
  }
  lifecycle.started();
  if (models.primary) return;
  log.info(
    { models: models.entries.map((entry) => entry.name), startMs: Math.round(performance.now() - started) },
    'ready',
  );
}

async function startFirst(
  primary: ModelEntry,
  config: Config,
  lifecycle: Lifecycle,
  log: Logger,
  started: number,
): Promise<void> {
  let reported = 0;
  const { model, problem } = await loadModel(primary.spec, config, {
    progress: (fraction) => {
      lifecycle.progress = fraction;
      if (fraction < reported + PROGRESS_STEP) return;
      reported = fraction;
      log.info({ progress: Math.round(fraction * 100) / 100 }, 'loading the model');
    },
    log: (level, message) => log[level]({ from: 'llama.cpp' }, message),
  });
  lifecycle.models.adopt(primary, model);
  const { dir, list, preload } = config.models;
  if (dir !== undefined || list.length > 0) primary.bytes = await estimate(primary.spec, config).catch(() => 0);
  const slow = tooSlow(model, config);
  if (slow) lifecycle.refuse(slow);
  if (preload.length === 0) lifecycle.started();
  if (problem !== undefined) log.warn(problem);
  const { model: file, ...info } = model.engine.info;
  const { chatTemplate, ...facts } = file;
  log.info(
    {
      ...info,
      ...facts,
      hasChatTemplate: chatTemplate !== undefined,
      tokensPerSecond: Math.round(model.tokensPerSecond * 10) / 10,
      startMs: Math.round(performance.now() - started),
    },
    slow ? 'loaded, and not ready' : 'ready',
  );
  if (slow) log.error({ reason: slow.reason }, slow.message);
}

/** Models that only embed have no speed to speak of. */
function tooSlow(model: LoadedModel, { minTokensPerSecond: least }: Config): Unfit | undefined {
  const { tokensPerSecond: measured, engine } = model;
  if (least === undefined || measured >= least || !engine.info.capabilities.generate) return undefined;
  const { backend, name } = engine.info.device;
  return {
    reason: 'too-slow',
    message:
      `generates ${measured.toFixed(1)} tokens a second on ${backend} (${name}), and hardware.minTokensPerSecond asks for ${least}: ` +
      'take other hardware or a smaller variant of the model, give it more CPU, or lower the minimum.',
  };
}

async function estimate(spec: ModelSpec, config: Config): Promise<number> {
  if (config.engine === 'fake') return 0;
  const facts = await readFacts(spec.path);
  const { contextLength, parallelRequests, kvCacheType } = configFor(spec, config);
  const context = Math.min(facts.trainedContextLength || DEFAULT_CONTEXT, contextLength ?? DEFAULT_CONTEXT);
  return estimateBytes(facts, { tokens: context * parallelRequests, kvCacheType }) + config.promptCacheBytes;
}
