/**
 * Asks the operator's broker whose token a client sent. Owns the connection and the files that it takes from a mounted folder,
 * which are read again for each question, so that a new address, authority or token needs no restart. Decides nothing and
 * remembers nothing.
 */
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { broker, brokerFiles, type TokenReviewAnswer } from '@slm-operator/crds/contract';

/** For one answer, in milliseconds: a client waits for it. */
const TIMEOUT_MS = 5000;
/** For all tries together, in milliseconds: by then another replica of the operator has taken over, or none will soon. */
const PATIENCE_MS = 15_000;
/** Before the second try; each pause is twice the one before, up to a second. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;
/** An answer is a sentence at most. */
const MAX_ANSWER = 16_384;

export class BrokerClient {
  readonly #folder: string;
  readonly #patienceMs: number;
  // Node keeps connections with another authority apart.
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 });

  /**
   * @param folder with the files that `brokerFiles` names
   * @param patienceMs how long a question is asked again while nobody answers; default 15 000
   */
  constructor(folder: string, patienceMs: number = PATIENCE_MS) {
    this.#folder = folder;
    this.#patienceMs = patienceMs;
  }

  /**
   * Asks, and asks again while nobody is there: a replica of the operator that ends takes its connections with it, and the
   * Service leads there for a moment longer.
   * @throws Error when the broker cannot be asked, or does not answer as it should
   */
  async review(token: string): Promise<TokenReviewAnswer> {
    const end = performance.now() + this.#patienceMs;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await this.#ask(token);
      } catch (error) {
        if (!(error instanceof NobodyThere) || performance.now() + pause > end) throw error;
      }
      await delay(pause);
    }
  }

  async #ask(token: string): Promise<TokenReviewAnswer> {
    const [address, host, ca, own] = await Promise.all(
      [brokerFiles.address, brokerFiles.host, brokerFiles.ca, brokerFiles.token].map(async (name) =>
        (await readFile(path.join(this.#folder, name), 'utf8')).trim(),
      ),
    );
    const { hostname, port } = new URL(`https://${address}`);
    const { status, text } = await this.#post(
      {
        host: hostname.replace(/^\[|\]$/g, ''),
        port,
        servername: host,
        ca,
        headers: { host, authorization: `Bearer ${own}` },
      },
      JSON.stringify({ token }),
    );
    if (status >= 500) throw new NobodyThere(`the broker answered ${status}: ${messageOf(text)}`);
    if (status !== 200) throw new Error(`the broker answered ${status}: ${messageOf(text)}`);
    const answer = JSON.parse(text) as TokenReviewAnswer;
    if (typeof answer.allowed !== 'boolean') throw new Error('the broker gave an answer of another form');
    return answer;
  }

  close(): void {
    this.#agent.destroy();
  }

  #post(target: Parameters<typeof request>[1], body: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const failed = (error: Error) =>
        reject(isTransient(error) ? new NobodyThere(error.message, { cause: error }) : error);
      const asking = request(
        {
          ...(target as object),
          agent: this.#agent,
          method: 'POST',
          path: broker.reviewPath,
          signal: AbortSignal.timeout(TIMEOUT_MS),
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (piece: string) => {
            text += piece;
            if (text.length > MAX_ANSWER) response.destroy(new Error('the broker’s answer is too long'));
          });
          response.once('error', failed);
          response.once('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      asking.once('error', failed).end(body);
    });
  }
}

/** Nobody could answer; another try may find somebody. */
class NobodyThere extends Error {}

/** An authority that is not trusted, or a name that is not the broker's, stays that. */
function isTransient({ code, name }: NodeJS.ErrnoException): boolean {
  // Node's own codes have an underscore, those of TLS do not begin with E.
  return name === 'AbortError' || /^E[A-Z]+$/.test(code ?? '');
}

function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { message?: unknown }).message);
  } catch {
    return 'no reason given';
  }
}
