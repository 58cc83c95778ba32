/**
 * Clients that show the ServiceAccount token of their pod. Owns what is remembered of a review and for how long; the review
 * is the API server's, asked through the operator's broker. Keeps hashes of tokens, never a token, and logs neither.
 */
import { createHash } from 'node:crypto';
import type { TokenReviewAnswer } from '@slm-operator/crds/contract';
import type { FastifyBaseLogger } from 'fastify';
import { ApiError } from '../api-error.ts';
import type { Authenticator, Caller } from './auth.ts';

/** How long a token that was good is taken without asking, in milliseconds: that long a deleted account still works. */
const GOOD_MS = 60_000;
/** The same for one that was refused: a new binding should not take long to work. */
const BAD_MS = 10_000;
/** While nobody can be asked, a token that was good works this long after its last review, in milliseconds. */
const STALE_MS = 10 * 60_000;
/** How long a request with such a token waits for a review that takes its time, in milliseconds. */
const STALE_WAIT_MS = 1000;
/** Tokens that are remembered: far more than pods that talk to one server. */
const MAX_REMEMBERED = 10_000;
/** Questions at the same time; strangers with made-up tokens must not fill the server with them. */
const MAX_ASKING = 64;
/** Retry-After when nobody can be asked, in seconds. */
const RETRY = 5;

interface Known {
  readonly answer: TokenReviewAnswer;
  /** Milliseconds since 1970. */
  readonly until: number;
  /** The same, while nobody can be asked. */
  readonly usableUntil: number;
}

export interface ServiceAccountsOptions {
  readonly review: (token: string) => Promise<TokenReviewAnswer>;
  /** What tokens must be made for. */
  readonly audience: string;
  readonly log: FastifyBaseLogger;
  /** Milliseconds since 1970. Default: Date.now. */
  readonly now?: () => number;
}

export class ServiceAccounts implements Authenticator {
  readonly #options: ServiceAccountsOptions;
  readonly #now: () => number;
  readonly #known = new Map<string, Known>();
  readonly #asking = new Map<string, Promise<TokenReviewAnswer>>();

  constructor(options: ServiceAccountsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** How a client without a token learns what to send. */
  get missing(): string {
    return `a ServiceAccount token is missing: mount a projected token with audience ${this.#options.audience} and send it as "Authorization: Bearer TOKEN"`;
  }

  /** @throws ApiError 401, 403, or 503 while nobody can be asked */
  async authenticate(token: string): Promise<Caller> {
    const expires = this.#precheck(token);
    const hash = createHash('sha256').update(token).digest('base64');
    const known = this.#known.get(hash);
    if (known && known.until > this.#now()) return accept(known.answer);
    const stale = known?.answer.allowed === true && known.usableUntil > this.#now() ? known : undefined;
    let answer: TokenReviewAnswer;
    try {
      const asked = this.#ask(hash, token, expires);
      answer = await (stale ? within(asked, STALE_WAIT_MS) : asked);
    } catch (error) {
      if (stale) {
        this.#keep(hash, stale);
        return accept(stale.answer);
      }
      if (error instanceof ApiError) throw error;
      throw new ApiError(503, 'the token cannot be checked now, because the operator does not answer: try again', {
        code: 'token_review_unavailable',
        retryAfter: RETRY,
      });
    }
    return accept(answer);
  }

  /** One question a token, however many requests come with it. */
  #ask(hash: string, token: string, expires: number): Promise<TokenReviewAnswer> {
    const asking = this.#asking.get(hash);
    if (asking) return asking;
    if (this.#asking.size >= MAX_ASKING)
      throw new ApiError(429, 'too many tokens are being checked at this moment: try again', { retryAfter: 1 });
    const question = this.#options
      .review(token)
      .then((answer) => {
        this.#remember(hash, answer, expires);
        return answer;
      })
      .catch((error: unknown) => {
        this.#options.log.warn({ problem: String(error) }, 'a token could not be checked');
        throw error;
      })
      .finally(() => this.#asking.delete(hash));
    this.#asking.set(hash, question);
    return question;
  }

  /** The next requests with a token that was good need not wait for the same silence. */
  #keep(hash: string, stale: Known): void {
    if (this.#known.get(hash) !== stale) return;
    this.#known.set(hash, { ...stale, until: Math.min(this.#now() + RETRY * 1000, stale.usableUntil) });
  }

  #remember(hash: string, answer: TokenReviewAnswer, expires: number): void {
    const now = this.#now();
    this.#known.delete(hash);
    this.#known.set(hash, {
      answer,
      until: Math.min(now + (answer.allowed ? GOOD_MS : BAD_MS), expires),
      usableUntil: Math.min(now + STALE_MS, expires),
    });
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_REMEMBERED && oldest !== undefined) this.#known.delete(oldest);
  }

  /**
   * Spares the API server what cannot be good. Proves nothing: only the review does.
   * @returns when the token ends, milliseconds since 1970
   */
  #precheck(token: string): number {
    const { audience } = this.#options;
    const claims = claimsOf(token);
    if (!claims) throw refusal(`this is no ServiceAccount token: send one that is made for the audience ${audience}`);
    if (!claims.audiences.includes(audience))
      throw refusal(`the token is made for another audience: ask for a projected token with audience ${audience}`);
    if (claims.expires <= this.#now())
      throw refusal('the token has expired: read the mounted file again, the kubelet renews it');
    return claims.expires;
  }
}

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no review in time')), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function accept(answer: TokenReviewAnswer): Caller {
  if (answer.allowed) return { type: 'ServiceAccount', name: answer.serviceAccount };
  if (answer.status === 401) throw refusal(answer.message);
  throw new ApiError(403, answer.message, { code: 'service_account_not_allowed' });
}

function refusal(message: string): ApiError {
  return new ApiError(401, message, { code: 'invalid_token' });
}

/** What a JSON Web Token says of itself. */
function claimsOf(token: string): { readonly audiences: readonly unknown[]; readonly expires: number } | undefined {
  const [, payload, signature, ...rest] = token.split('.');
  if (payload === undefined || signature === undefined || rest.length > 0) return undefined;
  try {
    const { aud, exp } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { aud?: unknown; exp?: unknown };
    const expires = typeof exp === 'number' ? exp * 1000 : Number.POSITIVE_INFINITY;
    return { audiences: Array.isArray(aud) ? aud : [aud], expires };
  } catch {
    return undefined;
  }
}
