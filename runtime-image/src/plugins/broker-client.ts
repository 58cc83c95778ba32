/**
 * Asks the operator's broker whose token a client sent. Owns the connection and the files that it takes from a mounted folder,
 * which are read again for each question, so that a new address, authority or token needs no restart. Decides nothing and
 * remembers nothing.
 */
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import path from 'node:path';
import { broker, brokerFiles, type TokenReviewAnswer } from '@slm-operator/crds/contract';

/** For the whole answer, in milliseconds: a client waits for it. */
const TIMEOUT_MS = 5000;
/** An answer is a sentence at most. */
const MAX_ANSWER = 16_384;

export class BrokerClient {
  readonly #folder: string;
  // Node keeps connections with another authority apart.
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 });

  /** @param folder with the files that `brokerFiles` names */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws Error when the broker cannot be asked, or does not answer as it should */
  async review(token: string): Promise<TokenReviewAnswer> {
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
          response.once('error', reject);
          response.once('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      asking.once('error', reject).end(body);
    });
  }
}

function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { message?: unknown }).message);
  } catch {
    return 'no reason given';
  }
}
