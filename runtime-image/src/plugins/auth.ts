/**
 * Who may ask. Owns what a client may present and where; API keys are here, ServiceAccounts beside. Keys are read from a folder with one key a file (a mounted Secret), re-read when it changes, compared in constant
 * time. Keys live here as digests only and are never logged.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.ts';
import { isOperations } from '../routes/operations.ts';
import { watchFolders } from '../watched-folder.ts';

/** Enough to tell keys apart in a log, far too little to find one. */
const KEY_ID_DIGITS = 8;

interface Key {
  /** The file's name; good for logs. */
  readonly name: string;
  readonly digest: Buffer;
}

/** Who asks; nothing of it is secret. */
export type Caller =
  /** The key's file, and the first digits of its SHA-256, which tell keys apart and give none away. */
  | { readonly type: 'APIKey'; readonly name: string; readonly id: string }
  /** `NAMESPACE/NAME`. */
  | { readonly type: 'ServiceAccount'; readonly name: string };

/** Tells callers apart. */
export interface Authenticator {
  /** What to say to a client that presents nothing. */
  readonly missing: string;
  /** @throws ApiError for what a client presents in vain */
  authenticate(presented: string): Caller | Promise<Caller>;
}

export class KeyStore implements Authenticator {
  readonly missing =
    'an API key is missing: send the header "Authorization: Bearer KEY"; the key is in the Secret of the SLMDeployment';
  readonly #folder: string;
  readonly #log: FastifyBaseLogger;
  #keys: readonly Key[] = [];
  #reading: Promise<void> = Promise.resolve();
  #close: () => void = () => undefined;

  constructor(folder: string, log: FastifyBaseLogger) {
    this.#folder = folder;
    this.#log = log;
  }

  /** Reads the keys and goes on watching. A folder without keys is served too: it refuses everybody. */
  async open(): Promise<void> {
    await this.reload();
    this.#close = watchFolders([this.#folder], () => void this.reload());
  }

  close(): void {
    this.#close();
  }

  /**
   * Reads the folder again; keeps the old keys when it cannot be read in the middle of a swap. One reading at a time, in
   * the order of the calls: of two side by side, the one that began before the swap could end last and win.
   */
  reload(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#read());
    return this.#reading;
  }

  async #read(): Promise<void> {
    try {
      const names = (await readdir(this.#folder)).filter((name) => !name.startsWith('.')).sort();
      const texts = await Promise.all(names.map((name) => readFile(path.join(this.#folder, name), 'utf8')));
      const keys = names.flatMap((name, index) => {
        const text = texts[index]?.trim() ?? '';
        return text === '' ? [] : [{ name, digest: digestOf(text) }];
      });
      const changed =
        keys.length !== this.#keys.length ||
        keys.some(
          (key, index) => this.#keys[index]?.name !== key.name || !this.#keys[index]?.digest.equals(key.digest),
        );
      this.#keys = keys;
      if (!changed) return;
      const report = { keys: keys.map((key) => key.name) };
      if (keys.length === 0) this.#log.warn(report, 'there are no API keys: every request is refused');
      else this.#log.info(report, 'API keys read');
    } catch (error) {
      this.#log.warn({ code: (error as NodeJS.ErrnoException).code }, 'API keys cannot be read; the known ones stay');
    }
  }

  authenticate(presented: string): Caller {
    const key = this.find(presented);
    if (key) return { type: 'APIKey', ...key };
    throw new ApiError(401, 'the API key is not valid: take a current one from the Secret of the SLMDeployment', {
      code: 'invalid_api_key',
    });
  }

  /** @returns the key's name and the first digits of its digest, or undefined for a wrong one */
  find(presented: string): { readonly name: string; readonly id: string } | undefined {
    const digest = digestOf(presented);
    let found: Key | undefined;
    // Every key is compared, so the time tells neither which matched nor how many there are to the left.
    for (const key of this.#keys) if (timingSafeEqual(key.digest, digest)) found = key;
    return found && { name: found.name, id: found.digest.toString('hex').slice(0, KEY_ID_DIGITS) };
  }
}

/** Refuses API requests of callers that are not known. */
export function registerAuth(app: FastifyInstance, authenticator: Authenticator): void {
  app.addHook('onRequest', async (request, reply) => {
    if (isOperations(request)) return;
    const presented = presentedKey(request);
    try {
      if (presented === undefined) throw new ApiError(401, authenticator.missing, { code: 'invalid_api_key' });
      const caller = await authenticator.authenticate(presented);
      request.facts.caller = caller;
      request.facts.tenant = caller.name;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) reply.header('www-authenticate', 'Bearer');
      throw error;
    }
  });
}

/** As OpenAI's and Ollama's clients send it, as Anthropic's do, and as Azure's do. */
function presentedKey(request: FastifyRequest): string | undefined {
  const { authorization, 'x-api-key': anthropic, 'api-key': azure } = request.headers;
  const found = /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1] ?? anthropic ?? azure;
  return typeof found === 'string' && found.trim() !== '' ? found.trim() : undefined;
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
