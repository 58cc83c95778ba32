/**
 * Asks one serving pod for an answer or for embeddings, as a client of the deployment would. Owns the requests of both APIs, what may
 * be tried again and what is final. Keeps nothing; no key, prompt or answer is ever in an error.
 */
import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { ports, type SLMDeployment, type SmokeTest } from '@slm-operator/crds';
import { Agent, buildConnector } from 'undici';
import { servedNamesOf } from '../names.ts';
import { shorten } from '../text.ts';
import { schemaObject } from './expectations.ts';

const CONNECT_MS = 5000;
/** An answer of 4096 tokens, and the vectors of two texts, are far smaller. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
const DEFAULT_TOKENS = 64;
const DEFAULT_SECONDS = 60;

/** Where and as whom to ask. */
export interface ModelPlace {
  readonly deployment: SLMDeployment;
  readonly ip: string;
  /** Default: Ollama's port, where every API is served. */
  readonly port?: number | undefined;
  /** Sent as a bearer token; undefined where nobody needs one. */
  readonly key: string | undefined;
  /** The certificate that the pod must present, PEM; undefined for plain HTTP. */
  readonly certificate: string | undefined;
}

/**
 * Why there is no answer.
 * - `unreachable`: nothing was learned of the model: no connection, no key that is good, not ready. Worth trying again.
 * - `failed`: the server failed or was too slow. Worth trying again, but not for ever.
 * - `refused`: the server says no to this very request, and will again.
 */
export class AskError extends Error {
  readonly kind: 'unreachable' | 'failed' | 'refused';

  constructor(kind: AskError['kind'], message: string) {
    super(message);
    this.name = 'AskError';
    this.kind = kind;
  }
}

/** Asks pods; `close` ends its connections. */
export interface ModelClient {
  /** The answer to a test's prompt, at temperature 0 with a fixed seed. Throws {@link AskError}. */
  answer(place: ModelPlace, test: SmokeTest, signal?: AbortSignal): Promise<string>;
  /** One vector for each text. Throws {@link AskError}. */
  embed(
    place: ModelPlace,
    texts: readonly string[],
    timeoutSeconds?: number,
    signal?: AbortSignal,
  ): Promise<number[][]>;
}

export function makeModelClient(): ModelClient {
  return { answer, embed };
}

async function answer(place: ModelPlace, test: SmokeTest, signal?: AbortSignal): Promise<string> {
  const { deployment } = place;
  const model = servedNamesOf(deployment)[0];
  const schema = schemaObject(test);
  const maxTokens = test.maxTokens ?? DEFAULT_TOKENS;
  const messages = [
    ...(test.system === undefined ? [] : [{ role: 'system', content: test.system }]),
    { role: 'user', content: test.prompt },
  ];
  const request = hasOpenAi(deployment)
    ? {
        path: '/v1/chat/completions',
        body: {
          model,
          messages,
          max_tokens: maxTokens,
          temperature: 0,
          seed: 1,
          ...(schema && { response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } } }),
        },
      }
    : {
        path: '/api/chat',
        body: {
          model,
          messages,
          stream: false,
          options: { temperature: 0, seed: 1, num_predict: maxTokens },
          ...(schema && { format: schema }),
        },
      };
  const body = await post(place, request, test.timeoutSeconds ?? DEFAULT_SECONDS, signal);
  const { choices, message } = body as {
    choices?: readonly { message?: { content?: unknown } }[];
    message?: { content?: unknown };
  };
  // A model that only thought has said nothing.
  const content = choices === undefined ? message?.content : (choices[0]?.message?.content ?? '');
  if (typeof content !== 'string') throw new AskError('failed', 'the server gave an answer of another form');
  return content;
}

async function embed(
  place: ModelPlace,
  texts: readonly string[],
  timeoutSeconds = DEFAULT_SECONDS,
  signal?: AbortSignal,
): Promise<number[][]> {
  const openai = hasOpenAi(place.deployment);
  const request = {
    path: openai ? '/v1/embeddings' : '/api/embed',
    body: { model: servedNamesOf(place.deployment)[0], input: texts },
  };
  const body = await post(place, request, timeoutSeconds, signal);
  const { data, embeddings } = body as { data?: readonly { embedding?: unknown }[]; embeddings?: unknown };
  const vectors: unknown = openai ? data?.map(({ embedding }) => embedding) : embeddings;
  if (!Array.isArray(vectors) || vectors.length !== texts.length || !vectors.every(isVector)) {
    throw new AskError('failed', 'the server gave embeddings of another form');
  }
  return vectors;
}

function isVector(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((number) => typeof number === 'number' && Number.isFinite(number));
}

function hasOpenAi({ spec }: SLMDeployment): boolean {
  return spec.api?.openai !== false;
}

async function post(
  place: ModelPlace,
  request: { readonly path: string; readonly body: object },
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const { ip, port = ports.ollama, key, certificate } = place;
  const host = ip.includes(':') ? `[${ip}]` : ip;
  // Tests are minutes apart, so a connection is kept for one request only.
  const agent = new Agent({
    connect: certificate === undefined ? { timeout: CONNECT_MS } : pinned(certificate),
    headersTimeout: 0,
    bodyTimeout: 0,
    maxResponseSize: MAX_BODY_BYTES,
  });
  const late = AbortSignal.timeout(seconds * 1000);
  try {
    const { statusCode, body } = await agent.request({
      origin: `${certificate === undefined ? 'http' : 'https'}://${host}:${port}`,
      path: request.path,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify(request.body),
      signal: signal === undefined ? late : AbortSignal.any([late, signal]),
    });
    return read(statusCode, await body.text());
  } catch (error) {
    if (error instanceof AskError) throw error;
    if (late.aborted) throw new AskError('failed', `there is no answer within ${seconds} s`);
    throw new AskError('unreachable', `the pod cannot be asked (${codeOf(error)})`);
  } finally {
    void agent.destroy();
  }
}

function read(status: number, text: string): unknown {
  const body = parse(text);
  if (status === 200 && body !== undefined) return body;
  const said = `the server answered ${status}${messageOf(body)}`;
  if (status === 401 || status === 403) throw new AskError('unreachable', `${said}; the operator's key is not taken`);
  if (status === 429 || status === 503) throw new AskError('unreachable', said);
  if (status >= 400 && status < 500) throw new AskError('refused', said);
  throw new AskError('failed', said);
}

/** What the server says is short and speaks of the request's form, never of its content. */
function messageOf(body: unknown): string {
  const { error } = (body ?? {}) as { error?: unknown };
  const message = typeof error === 'object' && error !== null ? (error as { message?: unknown }).message : error;
  return typeof message === 'string' ? `: ${shorten(message.replace(/[\p{Cc}\p{Cf}]+/gu, ' '), 200)}` : '';
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function codeOf(error: unknown): string {
  const { code, cause, name } = error as { code?: unknown; cause?: { code?: unknown }; name?: string };
  const found = [code, cause?.code, name].find((word) => typeof word === 'string');
  return typeof found === 'string' ? found : 'no reason given';
}

/**
 * Connects to whoever holds this very certificate. Its names are of a Service and say nothing of a pod's address, so they are not
 * looked at; no key is sent before the certificate was seen.
 */
function pinned(certificate: string): buildConnector.connector {
  const wanted = new X509Certificate(certificate).fingerprint256;
  const connect = buildConnector({ timeout: CONNECT_MS, rejectUnauthorized: false, maxCachedSessions: 0 });
  return (options, callback) => {
    connect(options, (error, socket) => {
      if (error !== null) {
        callback(error, null);
        return;
      }
      if ((socket as TLSSocket).getPeerX509Certificate()?.fingerprint256 === wanted) {
        callback(null, socket);
        return;
      }
      socket.destroy();
      const code = 'it presents another certificate than the Secret of spec.tls has';
      callback(Object.assign(new Error(code), { code }), null);
    });
  };
}
