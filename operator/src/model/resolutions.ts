/**
 * Asks sources, in the background, a few models at a time, and remembers what they answered. Owns retries and the reading of
 * Secrets. What is known of a part of a model, or was answered in an earlier attempt, is not asked again.
 * The controller sees the answers as part of what it observes; nothing here writes to the API server.
 */
import type { SLMModel } from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap, keyOf, Secret } from '../kube/resource.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import { decodeSecret, makeCredentials } from '../sources/credentials.ts';
import { SourceError, type SourceFailure } from '../sources/http-errors.ts';
import { type Resolution, type ResolveOptions, resolveSource } from '../sources/resolve.ts';
import type { SourceCredentials } from '../sources/source.ts';
import type { ResolutionState } from './observed.ts';
import {
  checkFormat,
  checkSize,
  credentialsFor,
  failureOfPart,
  joinParts,
  knownParts,
  type ModelResolution,
  type Part,
  partsOf,
} from './parts.ts';

/** A failure that only a change can end is looked at again this often, because not every change shows itself here. */
const TERMINAL_RETRY_MS = 5 * 60_000;
/** A Secret that is missing or refused: nobody tells us when it changes, so it is read again this often. */
const SECRET_RETRY_MS = 10_000;
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;
/** Models whose sources are asked at the same time. */
const CONCURRENCY = 4;

export interface ResolutionsOptions {
  readonly client: Pick<KubeClient, 'find'>;
  readonly hfEndpoint: string;
  readonly hfEndpointInsecure: boolean;
  readonly log: Logger;
  /** Called with the model's key when an answer is there. */
  readonly onAnswer: (key: string) => void;
  readonly clock?: Clock | undefined;
  /** For tests. */
  readonly resolve?: typeof resolveSource | undefined;
}

export interface Resolutions {
  get(key: string): ResolutionState | undefined;
  /** Asks the model's source, unless that is being done for this hash. */
  start(model: SLMModel, hash: string): void;
  /** Drops what is known, and ends what runs. */
  forget(key: string): void;
  /** Ends everything. */
  close(): void;
}

interface Job {
  state: ResolutionState;
  abort: AbortController | undefined;
  /** What the last refused attempt was made with: the same credentials are refused again. */
  refused?: { readonly versions: string; readonly failure: SourceFailure; readonly at: number } | undefined;
  /** By hash: parts that were answered while another failed. */
  answered: ReadonlyMap<string, Resolution>;
}

/** Makes the service. */
export function makeResolutions(options: ResolutionsOptions): Resolutions {
  const { client, log, onAnswer, clock = systemClock, resolve = resolveSource } = options;
  const jobs = new Map<string, Job>();
  const waiting: (() => void)[] = [];
  let running = 0;

  const enter = async () => {
    if (running < CONCURRENCY) running++;
    // Whoever leaves hands on its place without giving it up in between.
    else await new Promise<void>((ready) => waiting.push(ready));
  };
  const leave = () => {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  };

  const ask = async (model: SLMModel, job: Job, signal: AbortSignal): Promise<ModelResolution> => {
    await enter();
    try {
      signal.throwIfAborted();
      const { credentials, versions } = await readCredentials(client, model, signal);
      const { refused } = job;
      if (refused?.versions === versions && clock.now() - refused.at < TERMINAL_RETRY_MS) {
        throw new SourceError(refused.failure);
      }
      job.refused = undefined;
      const parts = partsOf(model, options.hfEndpoint);
      const known = new Map([...knownParts(model), ...job.answered]);
      const results: Resolution[] = [];
      try {
        // One after the other: a model has a handful, and the sentence of the first that fails is the one to act on.
        for (const part of parts) {
          const result = known.get(part.hash) ?? (await askPart(model, part, credentials, signal));
          known.set(part.hash, result);
          results.push(result);
        }
        const resolution = joinParts(parts, results);
        checkSize(resolution);
        return resolution;
      } catch (error) {
        // What the spec has no more is forgotten: whoever goes back to it wants it resolved anew.
        job.answered = new Map(parts.flatMap(({ hash }) => entryOf(known, hash)));
        if (error instanceof SourceError && error.failure.terminal) {
          job.refused = { versions, failure: error.failure, at: clock.now() };
        }
        throw error;
      }
    } finally {
      leave();
    }
  };

  const askPart = async (model: SLMModel, part: Part, credentials: SourceCredentials, signal: AbortSignal) => {
    const resolveOptions: ResolveOptions = {
      hfEndpoint: options.hfEndpoint,
      hfEndpointInsecure: options.hfEndpointInsecure,
      signal,
    };
    try {
      const result = await resolve(part.spec, credentialsFor(part, credentials), resolveOptions);
      checkFormat(part, result);
      return result;
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      throw new SourceError(failureOfPart(part, error.failure, model.spec.source.secretRef !== undefined));
    }
  };

  const run = async (key: string, model: SLMModel, job: Job, abort: AbortController) => {
    const { hash, generation, failures } = job.state;
    let state: ResolutionState;
    try {
      const result = await ask(model, job, abort.signal);
      state = { hash, generation, running: false, failures: 0, result };
      const variants = result.variants?.map(({ name, digest }) => `${name} ${digest}`);
      log.info({ model: key, digest: result.digest, bytes: result.size, variants }, 'source resolved');
    } catch (error) {
      if (abort.signal.aborted) return;
      const failure = failureOf(error);
      const delay = retryDelay(failure, failures, model);
      state = { hash, generation, running: false, failures: failures + 1, failure, retryAt: clock.now() + delay };
      log.info(
        { model: key, reason: failure.reason, detail: failure.message, retryInMs: delay },
        'source not resolved',
      );
    }
    if (jobs.get(key) !== job) return;
    job.state = state;
    job.abort = undefined;
    onAnswer(key);
  };

  return {
    get: (key) => jobs.get(key)?.state,
    start(model, hash) {
      const key = keyOf(model);
      const generation = model.metadata.generation ?? 0;
      const before = jobs.get(key);
      const same = before?.state.hash === hash && before.state.generation === generation;
      if (same && before.state.running) return;
      before?.abort?.abort();
      const abort = new AbortController();
      const known = before?.state.hash === hash ? before.state : { failures: 0 };
      const job: Job = {
        answered: before?.answered ?? new Map(),
        ...(same ? before : {}),
        state: { ...known, hash, generation, running: true },
        abort,
      };
      jobs.set(key, job);
      void run(key, model, job, abort);
    },
    forget(key) {
      jobs.get(key)?.abort?.abort();
      jobs.delete(key);
    },
    close() {
      for (const job of jobs.values()) job.abort?.abort();
      jobs.clear();
    },
  };
}

/**
 * Reads what the model's source names. `versions` changes whenever one of the objects does. Rejects with SourceError
 * (SecretNotFound) when something is missing.
 */
export async function readCredentials(
  client: Pick<KubeClient, 'find'>,
  { metadata, spec }: SLMModel,
  signal?: AbortSignal,
): Promise<{ readonly credentials: SourceCredentials; readonly versions: string }> {
  const namespace = metadata.namespace ?? '';
  const { secretRef, caBundleRef } = spec.source;
  const readSecret = async (name: string) => {
    const secret = await client.find(Secret, { namespace, name }, { signal });
    return {
      version: secret?.metadata?.resourceVersion,
      text: secret === undefined ? undefined : decodeSecret(secret.data),
    };
  };
  const readConfigMap = async (name: string) => {
    const map = await client.find(ConfigMap, { namespace, name }, { signal });
    return { version: map?.metadata?.resourceVersion, text: map === undefined ? undefined : (map.data ?? {}) };
  };
  const secret = secretRef === undefined ? undefined : await readSecret(secretRef.name);
  const ca =
    caBundleRef === undefined
      ? undefined
      : await (caBundleRef.kind === 'Secret' ? readSecret(caBundleRef.name) : readConfigMap(caBundleRef.name));
  const credentials = makeCredentials({ namespace, secretRef, secret: secret?.text, caBundleRef, caObject: ca?.text });
  return { credentials, versions: `${secret?.version ?? ''} ${ca?.version ?? ''}` };
}

function entryOf<K, V>(map: ReadonlyMap<K, V>, key: K): [K, V][] {
  const value = map.get(key);
  return value === undefined ? [] : [[key, value]];
}

function failureOf(error: unknown): SourceFailure {
  if (error instanceof SourceError) return error.failure;
  const message = error instanceof Error ? error.message : String(error);
  // The API server's answer to a read of a Secret, or a fault of ours: neither says anything about the source.
  return { reason: 'SourceUnavailable', message: `the source could not be asked: ${message}`, terminal: false };
}

function retryDelay(failure: SourceFailure, failures: number, { spec }: SLMModel): number {
  if (failure.retryAfterMs !== undefined) return Math.max(failure.retryAfterMs, FIRST_RETRY_MS);
  if (!failure.terminal) return Math.min(FIRST_RETRY_MS * 2 ** failures, MAX_RETRY_MS);
  const named = spec.source.secretRef !== undefined || spec.source.caBundleRef !== undefined;
  return named ? SECRET_RETRY_MS : TERMINAL_RETRY_MS;
}
