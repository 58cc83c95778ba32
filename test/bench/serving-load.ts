/**
 * The load generator of the benchmark `serving`: a program of its own, so that measuring shares no thread with anything else.
 * Its parent sends one task after another; it answers each with the times that it saw. Never starts a server and never judges.
 */
import http from 'node:http';

/** A chat of one message, answered greedily with exactly `maxTokens` tokens. */
export interface Ask {
  readonly prompt: string;
  readonly maxTokens: number;
}

/** Whom to ask. */
export interface Target {
  readonly port: number;
  readonly model: string;
  /** Whether connections are used again; a server that closes idle ones gets a fresh one for each request. */
  readonly keepAlive: boolean;
}

export type Task =
  /** Asks everything, `clients` at a time. */
  | { readonly kind: 'series'; readonly target: Target; readonly clients: number; readonly asks: readonly Ask[] }
  /** Lets one answer run, and asks something else when `after` pieces of it have come. */
  | {
      readonly kind: 'intrude';
      readonly target: Target;
      readonly stream: Ask;
      readonly after: number;
      readonly intruder: Ask;
    }
  /** Asks everything at once, hangs up on all of it, and asks `next`. */
  | {
      readonly kind: 'hangUp';
      readonly target: Target;
      readonly asks: readonly Ask[];
      readonly afterMs: number;
      readonly next: Ask;
    }
  /** Asks `path` until it says 200, then asks `ask`; for a server that is just starting. */
  | { readonly kind: 'start'; readonly target: Target; readonly path: string; readonly ask: Ask };

/** How one answer came. Times in milliseconds since 1970, with fractions. */
export interface Answer {
  readonly asked: number;
  /** The first piece of text. */
  readonly first: number;
  /** When each piece came, the first one too. */
  readonly pieces: readonly number[];
  readonly promptTokens: number;
  readonly completionTokens: number;
}

export type Reply = { readonly answers: readonly Answer[] } | { readonly error: string };

/** Nothing that is measured takes this long, unless something hangs. */
const TIMEOUT_MS = 180_000;
const POLL_MS = 5;

const now = () => performance.timeOrigin + performance.now();
const agents = { kept: new http.Agent({ keepAlive: true }), fresh: new http.Agent({ keepAlive: false }) };

/** Asks once. Rejects when the server refuses, breaks off or counts no tokens. */
function ask(target: Target, { prompt, maxTokens }: Ask, hooks: Hooks = {}): Promise<Answer> {
  const body = JSON.stringify({
    model: target.model,
    messages: [
      { role: 'system', content: 'You are a storyteller.' },
      { role: 'user', content: prompt },
    ],
    max_tokens: maxTokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  return new Promise((resolve, reject) => {
    const asked = now();
    const request = http.request(
      {
        host: '127.0.0.1',
        port: target.port,
        path: '/v1/chat/completions',
        method: 'POST',
        agent: target.keepAlive ? agents.kept : agents.fresh,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        timeout: TIMEOUT_MS,
      },
      (response) => {
        const pieces: number[] = [];
        let usage: { prompt_tokens: number; completion_tokens: number } | undefined;
        let rest = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) {
            // Parsing every piece would take a good part of a core from the servers.
            if (line.includes('"content":"') && !line.includes('"content":""')) {
              pieces.push(now());
              hooks.onPiece?.(pieces.length);
            }
            if (line.includes('"completion_tokens"'))
              usage = (JSON.parse(line.slice('data:'.length)) as { usage: typeof usage }).usage;
          }
        });
        response.on('error', reject);
        response.on('end', () => {
          const [first] = pieces;
          if (response.statusCode !== 200 || first === undefined || !usage)
            return reject(new Error(`HTTP ${response.statusCode}, ${pieces.length} pieces of text: ${rest}`));
          const { prompt_tokens: promptTokens, completion_tokens: completionTokens } = usage;
          return resolve({ asked, first, pieces, promptTokens, completionTokens });
        });
      },
    );
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error(`nothing came for ${TIMEOUT_MS / 1000} s`)));
    hooks.onRequest?.(request);
    request.end(body);
  });
}

interface Hooks {
  readonly onPiece?: (count: number) => void;
  readonly onRequest?: (request: http.ClientRequest) => void;
}

const performers: { [K in Task['kind']]: (task: Extract<Task, { kind: K }>) => Promise<Answer[]> } = {
  async series({ target, clients, asks }) {
    const answers: Answer[] = [];
    const waiting = asks.entries();
    const client = async () => {
      for (const [at, one] of waiting) answers[at] = await ask(target, one);
    };
    await Promise.all(Array.from({ length: clients }, client));
    return answers;
  },

  async intrude({ target, stream, after, intruder }) {
    let intruding: Promise<Answer> | undefined;
    const answer = await ask(target, stream, {
      onPiece: (count) => {
        if (count === after) intruding = ask(target, intruder);
      },
    });
    if (!intruding) throw new Error(`the stream ended before piece ${after}`);
    return [answer, await intruding];
  },

  async hangUp({ target, asks, afterMs, next }) {
    const requests: http.ClientRequest[] = [];
    let hungUp = false;
    const gone = asks.map(async (one) => {
      await ask(target, one, { onRequest: (request) => requests.push(request) }).catch((error: unknown) => {
        if (!hungUp) throw error;
      });
      if (!hungUp) throw new Error('an answer ended before its client hung up');
    });
    setTimeout(() => {
      hungUp = true;
      for (const request of requests) request.destroy();
    }, afterMs);
    await Promise.all(gone);
    return [await ask(target, next)];
  },

  async start({ target, path, ask: first }) {
    const end = now() + TIMEOUT_MS;
    while (!(await isReady(target, path))) {
      if (now() > end) throw new Error(`the server is not ready after ${TIMEOUT_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return [await ask(target, first)];
  },
};

function isReady(target: Target, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = http.get({ host: '127.0.0.1', port: target.port, path, agent: agents.fresh }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode === 200));
      response.on('error', () => resolve(false));
    });
    request.on('error', () => resolve(false));
  });
}

process.on('message', (task: Task) => {
  // Each performer takes its own kind, which the compiler cannot follow through the table.
  (performers[task.kind] as (task: Task) => Promise<Answer[]>)(task)
    .then((answers): Reply => ({ answers }))
    .catch((error: unknown): Reply => ({ error: error instanceof Error ? error.message : String(error) }))
    .then((reply) => process.send?.(reply))
    .catch(() => process.exit(1));
});
process.on('disconnect', () => process.exit());
