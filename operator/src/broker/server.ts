/**
 * The broker's HTTPS server: grants for node agents, reviews of tokens for serving pods. Owns the order of the checks (who asks, how often, what for) and the
 * renewal of its certificate while it runs. Runs on every replica, leader or not. Logs who got a grant for what; never the grant.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import {
  broker,
  type SLMDeployment as Deployment,
  type DownloadGrant,
  digestPattern,
  type SLMModel as Model,
  type SLMNodeCache as NodeCache,
} from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';
import type { KubeObject } from '../kube/resource.ts';
import { readCredentials } from '../model/resolutions.ts';
import { type Clock, sleep, systemClock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import { SourceError, type SourceFailure } from '../sources/http-errors.ts';
import { GRANT_RATE, makeCallers, makeRateLimit, makeServingPods } from './callers.ts';
import { basesFor, type GrantRefusal, isRefusal, makeGrant, usableCredentials } from './grants.ts';
import { type BrokerIdentity, ensureIdentity } from './identity.ts';
import { makeTokenReviews } from './token-reviews.ts';

export interface BrokerOptions {
  readonly client: Pick<KubeClient, 'find' | 'create' | 'update' | 'reviewToken'>;
  /** From the stores: what the broker knows is what the controllers know. */
  readonly findModel: (key: string) => Model | undefined;
  readonly findCache: (node: string) => NodeCache | undefined;
  /** A managed pod, by `namespace/name`. */
  readonly findPod: (key: string) => KubeObject | undefined;
  readonly findDeployment: (key: string) => Deployment | undefined;
  readonly namespace: string;
  /** ServiceAccount of the agents, in `namespace`. */
  readonly agentServiceAccount: string;
  /** The operator's own ServiceAccount, in `namespace`: it asks deployments their smoke tests. */
  readonly serviceAccount: string;
  /** DNS names that the certificate is for. */
  readonly hosts: readonly string[];
  readonly hfEndpoint: string;
  /** 0: a free one. */
  readonly port: number;
  /** Default: all addresses. */
  readonly host?: string | undefined;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
}

export interface Broker {
  /** Serves until the signal is aborted. Rejects when the port cannot be had. */
  run(signal: AbortSignal): Promise<void>;
  /** Throws with the reason while it cannot serve. */
  check(): void;
  /** The port bound, once it serves. */
  readonly port: number | undefined;
}

/** The Secret is read again this often: another replica may have renewed it. Milliseconds. */
const REFRESH_MS = 10 * 60_000;
/** A certificate that could not be made or read is tried again this soon. */
const RETRY_MS = 5000;
/** A token is a kilobyte or two. */
const MAX_BODY = 16_384;

export function makeBroker(options: BrokerOptions): Broker {
  return new GrantServer(options);
}

class GrantServer implements Broker {
  readonly #options: BrokerOptions;
  readonly #clock: Clock;
  readonly #callerOf: ReturnType<typeof makeCallers>;
  readonly #podOf: ReturnType<typeof makeServingPods>;
  readonly #review: ReturnType<typeof makeTokenReviews>;
  readonly #limit: ReturnType<typeof makeRateLimit>;
  #server: Server | undefined;
  #why = 'the certificate of the download broker is not there yet';

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const monotonic = () => this.#clock.monotonic();
    const username = `system:serviceaccount:${options.namespace}:${options.agentServiceAccount}`;
    this.#podOf = makeServingPods({ client: options.client, monotonic });
    const operator = { namespace: options.namespace, name: options.serviceAccount };
    this.#review = makeTokenReviews({ ...options, operator, monotonic });
    this.#callerOf = makeCallers({ client: options.client, username, monotonic });
    this.#limit = makeRateLimit(GRANT_RATE, monotonic);
  }

  get port(): number | undefined {
    return (this.#server?.address() as AddressInfo | null | undefined)?.port;
  }

  check(): void {
    if (this.#server?.listening !== true) throw new Error(this.#why);
  }

  async run(signal: AbortSignal): Promise<void> {
    let served = '';
    try {
      while (!signal.aborted) {
        let pause = REFRESH_MS;
        try {
          const identity = await ensureIdentity({ ...this.#options, now: () => this.#clock.now() }, signal);
          for (const detail of identity.renewed) this.#options.log.info({ detail }, 'broker certificate renewed');
          if (identity.serving.cert !== served) await this.#serve(identity);
          served = identity.serving.cert;
        } catch (error) {
          if (signal.aborted) break;
          if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') throw error;
          // A certificate at hand serves on; it is renewed long before it ends.
          this.#why = `the certificate of the download broker: ${String(error)}`;
          this.#options.log.warn({ error: String(error) }, 'broker certificate could not be made sure of');
          pause = RETRY_MS;
        }
        await sleep(this.#clock, pause, signal).catch(() => undefined);
      }
    } finally {
      await this.#close();
    }
  }

  async #serve({ serving }: BrokerIdentity): Promise<void> {
    if (this.#server !== undefined) {
      this.#server.setSecureContext(serving);
      return;
    }
    const server = createServer({ ...serving, minVersion: 'TLSv1.2' }, (request, response) => {
      void this.#answer(request, response);
    });
    server.requestTimeout = 30_000;
    server.headersTimeout = 10_000;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#options.port, this.#options.host, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
    server.on('error', (error) => this.#options.log.warn({ error: String(error) }, 'broker connection failed'));
    this.#server = server;
    this.#options.log.info({ port: this.port }, 'broker serving');
  }

  async #close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeIdleConnections();
      // Running grants take a request or two to the source; whoever is cut off asks another replica.
      setTimeout(() => server.closeAllConnections(), 5000).unref();
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const ended = new AbortController();
    response.once('close', () => ended.abort());
    const signal = AbortSignal.any([ended.signal, AbortSignal.timeout(30_000)]);
    try {
      const { status, body, retryAfterMs } = await this.#handle(request, signal);
      const headers: Record<string, string> = { 'content-type': 'application/json', 'cache-control': 'no-store' };
      if (retryAfterMs !== undefined) headers['retry-after'] = String(Math.ceil(retryAfterMs / 1000));
      response.writeHead(status, headers).end(JSON.stringify(body));
    } catch (error) {
      this.#options.log.warn({ error: String(error) }, 'grant failed');
      const body = { reason: 'SourceUnavailable', message: 'the operator cannot answer now', terminal: false };
      if (!response.headersSent)
        response.writeHead(503, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    }
  }

  async #handle(request: IncomingMessage, signal: AbortSignal): Promise<Answer> {
    const only = `there is only POST ${broker.path} and POST ${broker.reviewPath} here`;
    if (request.url !== broker.path && request.url !== broker.reviewPath) return refuse(404, only, true);
    if (request.method !== 'POST') return refuse(405, only, true);
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (request.url === broker.reviewPath) return this.#reviewToken(token, request, signal);
    const caller = await this.#callerOf(token, signal);
    if (!('node' in caller)) {
      this.#options.log.warn({ status: caller.status, detail: caller.message }, 'grant refused');
      return refuse(caller.status, caller.message, false);
    }
    const { node } = caller;
    const wait = this.#limit(node);
    if (wait !== undefined) {
      const { status, body } = refuse(429, 'too many grants for this node', false);
      return { status, body: { ...body, retryAfterMs: wait }, retryAfterMs: wait };
    }
    const digest = readField(await readBody(request), 'digest');
    if (digest === undefined || !new RegExp(digestPattern).test(digest))
      return refuse(400, 'write {"digest": "sha256:HEX"}', true);
    const granted = await this.#grant(digest, node, signal);
    const fields = { node, digest };
    if ('files' in granted) {
      this.#options.log.info({ ...fields, files: granted.files.length }, 'grant given');
      return { status: 200, body: granted };
    }
    const { status, ...body } = granted;
    this.#options.log.info({ ...fields, status, reason: body.reason, detail: body.message }, 'grant refused');
    return { status, body };
  }

  async #reviewToken(own: string | undefined, request: IncomingMessage, signal: AbortSignal): Promise<Answer> {
    const pod = await this.#podOf(own, signal);
    if ('status' in pod) {
      this.#options.log.warn({ status: pod.status, detail: pod.message }, 'token review refused');
      return refuse(pod.status, pod.message, false);
    }
    const token = readField(await readBody(request), 'token');
    if (token === undefined) return refuse(400, 'write {"token": "TOKEN"}', true);
    const result = await this.#review(pod, token, signal);
    if (!('answer' in result)) {
      this.#options.log.info({ ...pod, status: result.status, detail: result.message }, 'token review refused');
      const { retryAfterMs } = result;
      return {
        ...refuse(result.status, result.message, false),
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      };
    }
    const { answer, deployment } = result;
    const { allowed } = answer;
    const who = allowed ? { serviceAccount: answer.serviceAccount } : { detail: answer.message };
    this.#options.log.info({ deployment, pod: pod.pod, allowed, ...who }, 'token reviewed');
    return { status: 200, body: answer };
  }

  /** The first model that can give the bytes does; the last refusal says why none could. */
  async #grant(digest: string, node: string, signal: AbortSignal): Promise<DownloadGrant | GrantRefusal> {
    const { client, findCache, findModel, hfEndpoint } = this.#options;
    const bases = basesFor(digest, node, findCache(node), findModel);
    if (isRefusal(bases)) return bases;
    let refusal: GrantRefusal | undefined;
    for (const basis of bases) {
      const { model, source } = basis;
      const usable = usableCredentials(model, source, hfEndpoint);
      if (usable === undefined) {
        const message = `SLMModel ${model.metadata.namespace}/${model.metadata.name} now names another host than this revision comes from, so its credential is not used for it`;
        refusal = { status: 409, reason: 'Unauthorized', message, terminal: false };
        continue;
      }
      try {
        const { credentials } = await readCredentials(client, model, signal);
        return await makeGrant(basis, usable(credentials), { now: this.#clock.now(), signal });
      } catch (error) {
        if (!(error instanceof SourceError)) throw error;
        refusal = refusalOf(error.failure);
      }
    }
    return refusal as GrantRefusal;
  }
}

interface Answer {
  readonly status: number;
  readonly body: object;
  readonly retryAfterMs?: number;
}

function refuse(status: number, message: string, terminal: boolean): Answer {
  return { status, body: { reason: 'PullFailed', message, terminal } };
}

function refusalOf({ reason, message, terminal }: SourceFailure): GrantRefusal {
  // A Secret can be repaired without anybody telling the node: it is worth asking again.
  return {
    status: 502,
    reason,
    message,
    terminal: terminal && reason !== 'SecretNotFound' && reason !== 'Unauthorized',
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.byteLength;
    if (length > MAX_BODY) break;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function readField(body: string, name: string): string | undefined {
  try {
    const value = (JSON.parse(body) as Record<string, unknown>)[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  } catch {
    return undefined;
  }
}
