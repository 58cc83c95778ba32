/** Owns asking a served model through the API server: port-forward, key, streamed answer with its times. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Cluster } from '../cluster/cluster.ts';

/** An open port-forward. */
export interface Forward extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
}

/**
 * Forwards a free local port to a port of a Service, as `kubectl port-forward` does.
 * @throws Error with what kubectl said when it ends before it listens
 */
export async function forwardPort(
  cluster: Pick<Cluster, 'binFolder' | 'kubeconfig'>,
  namespace: string,
  service: string,
  port: number,
): Promise<Forward> {
  const args = ['-n', namespace, 'port-forward', `service/${service}`, `:${port}`, '--address=127.0.0.1'];
  const child = spawn(path.join(cluster.binFolder, 'kubectl'), args, {
    env: { ...process.env, KUBECONFIG: cluster.kubeconfig },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  const local = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`kubectl port-forward service/${service}: ${complaint.trim()}`)));
    createInterface(child.stdout).on('line', (line) => {
      const found = /127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      if (found) resolve(found);
    });
  });
  return {
    url: `http://127.0.0.1:${local}`,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill();
      await ended;
    },
  };
}

/** First key of the Secret that the operator made for a deployment. */
export async function readApiKey(cluster: Cluster, namespace: string, secret: string): Promise<string> {
  const text = await cluster.kubectl(['-n', namespace, 'get', 'secret', secret, '-o', 'json']);
  const { data } = JSON.parse(text) as { data?: Record<string, string> };
  const [first] = Object.entries(data ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (!first) throw new Error(`Secret ${namespace}/${secret} holds no key`);
  return Buffer.from(first[1], 'base64').toString('utf8').trim();
}

/** How an answer came. */
export interface AnswerTimes {
  readonly text: string;
  readonly tokens: number;
  /** Seconds from the question to the first token. */
  readonly firstTokenSeconds: number;
  /** Tokens a second after the first. */
  readonly tokensPerSecond: number;
}

/**
 * Asks by the OpenAI API and streams the answer.
 * @throws Error with the server's own sentence when it refuses
 */
export async function ask(options: {
  readonly url: string;
  readonly key: string;
  readonly model: string;
  readonly question: string;
  readonly maxTokens?: number;
  readonly onText?: (text: string) => void;
  readonly signal?: AbortSignal;
}): Promise<AnswerTimes> {
  const started = performance.now();
  const response = await fetch(`${options.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${options.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      model: options.model,
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: options.maxTokens ?? 128,
      temperature: 0,
      messages: [{ role: 'user', content: options.question }],
    }),
    ...(options.signal ? { signal: options.signal } : {}),
  });
  if (!response.ok || !response.body)
    throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  let text = '';
  let pieces = 0;
  let tokens = 0;
  let first = 0;
  for await (const data of sseData(response.body)) {
    if (data === '[DONE]') break;
    const chunk = JSON.parse(data) as {
      choices?: { delta?: { content?: string } }[];
      usage?: { completion_tokens?: number } | null;
      error?: { message?: string };
    };
    if (chunk.error) throw new Error(`the answer broke off: ${chunk.error.message ?? 'no reason given'}`);
    tokens = chunk.usage?.completion_tokens ?? tokens;
    const piece = chunk.choices?.[0]?.delta?.content;
    if (!piece) continue;
    if (first === 0) first = performance.now();
    pieces += 1;
    text += piece;
    options.onText?.(piece);
  }
  const ended = performance.now();
  if (first === 0) throw new Error('the server ended its answer without a token');
  const count = tokens || pieces;
  return {
    text,
    tokens: count,
    firstTokenSeconds: (first - started) / 1000,
    tokensPerSecond: count > 1 ? (count - 1) / ((ended - first) / 1000) : 0,
  };
}

/** The data of each server-sent event. Exported for its test. */
export async function* sseData(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trim();
  }
}
