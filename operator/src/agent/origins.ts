/**
 * Where the files of one revision are to be had during one attempt. Owns the grant that the operator gives for it: asked
 * for when first needed, once more when a server refuses it, and forgotten with the attempt.
 */
import type { DownloadGrant, ModelFile, WantedModel } from '@slm-operator/crds';
import { fileUrl } from '@slm-operator/crds/digest';
import { makeSourceClient, type SourceClient, type SourceClientOptions } from '../sources/http.ts';
import { SourceError } from '../sources/http-errors.ts';
import type { BrokerClient } from './broker-client.ts';
import type { Origin } from './file-download.ts';

/** A grant is not used any more when it would run out within this time. */
const GRANT_MARGIN_MS = 30_000;

export interface OriginsOptions {
  readonly wanted: WantedModel;
  readonly broker?: BrokerClient | undefined;
  readonly signal: AbortSignal;
  readonly now: () => number;
  readonly http?: SourceClientOptions | undefined;
}

/** The sources of one attempt; `close` it afterwards. */
export class Origins {
  readonly #options: OriginsOptions;
  #plain: SourceClient | undefined;
  #granted: { readonly grant: DownloadGrant; readonly client: SourceClient } | undefined;

  constructor(options: OriginsOptions) {
    this.#options = options;
  }

  /** Ways to one file, in the order of the spec. All sources that need a grant are one way: the grant says which. */
  of(file: ModelFile): (() => Promise<Origin>)[] {
    const ways: (() => Promise<Origin>)[] = [];
    let granted = false;
    for (const source of this.#options.wanted.sources) {
      if (source.needsGrant !== true) {
        ways.push(() => Promise.resolve(this.#open(fileUrl(source.url, file.path))));
      } else if (!granted) {
        granted = true;
        ways.push(() => this.#grantedOrigin(file));
      }
    }
    return ways;
  }

  async #forgetGrant(): Promise<void> {
    const old = this.#granted;
    this.#granted = undefined;
    await old?.client.close();
  }

  async close(): Promise<void> {
    await this.#forgetGrant();
    await this.#plain?.close();
    this.#plain = undefined;
  }

  #open(url: string): Origin {
    this.#plain ??= this.#makeClient(undefined);
    return { url, client: this.#plain };
  }

  async #grantedOrigin(file: ModelFile): Promise<Origin> {
    const { broker, wanted, now, signal } = this.#options;
    const held = this.#granted;
    if (held !== undefined && Date.parse(held.grant.expiresAt) - now() < GRANT_MARGIN_MS) await this.#forgetGrant();
    const isNew = this.#granted === undefined;
    if (this.#granted === undefined) {
      if (broker === undefined) {
        throw new SourceError({
          reason: 'PullFailed',
          message:
            'the source needs a credential, and this agent was not told where the operator gives them (SLM_BROKER_URL)',
          terminal: true,
        });
      }
      const grant = await broker.grant(wanted.digest, signal);
      this.#granted = { grant, client: this.#makeClient(grant.caBundle) };
    }
    const { grant, client } = this.#granted;
    const entry = grant.files.find((candidate) => candidate.path === file.path);
    if (entry === undefined) {
      throw new SourceError({
        reason: 'PullFailed',
        message: `the operator's download grant does not name the file ${file.path}`,
        terminal: false,
      });
    }
    return {
      url: entry.url,
      client,
      credential: entry.headers,
      ...(isNew ? {} : { renew: () => this.#forgetGrant() }),
    };
  }

  #makeClient(caBundle: string | undefined): SourceClient {
    // Whether http:// is allowed was decided by the operator when it wrote the source; a credential never leaves its
    // origin, and the digest decides about the bytes.
    return makeSourceClient({ ...this.#options.http, insecure: true, ...(caBundle === undefined ? {} : { caBundle }) });
  }
}
