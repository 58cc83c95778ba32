/**
 * HTTP with a registry of models: which hosts may be asked, tokens, redirects. Owns no file and no model.
 */
import { ApiError } from '../../api-error.ts';
import { MANIFEST_TYPE } from './manifest.ts';
import type { StoreName } from './names.ts';

export interface RegistryAccess {
  /** Hosts, with their port where they have one. */
  readonly hosts: readonly string[];
  /** Plain HTTP, as a request may ask for. */
  readonly insecure: boolean;
  readonly signal?: AbortSignal;
}

/** No byte for so long, in milliseconds, and a connection is given up. */
const STALLED_MS = 60_000;
const MOST_REDIRECTS = 5;

/** The registry of one model. */
export class RegistryClient {
  readonly #base: string;
  readonly #repository: string;
  readonly #access: RegistryAccess;
  #token: string | undefined;

  /** @throws ApiError (403) for a host that is not on the list */
  constructor(name: StoreName, access: RegistryAccess) {
    if (!access.hosts.includes(name.host))
      throw new ApiError(
        403,
        `this server may not ask ${name.host}: add it to SLM_REGISTRIES (now ${access.hosts.join(', ') || 'none'})`,
        { code: 'registry_not_allowed' },
      );
    this.#repository = `${name.namespace}/${name.model}`;
    this.#base = `${access.insecure ? 'http' : 'https'}://${name.host}/v2/${this.#repository}`;
    this.#access = access;
  }

  /** @throws ApiError (404) */
  async manifest(tag: string): Promise<string> {
    const response = await this.#send('GET', `${this.#base}/manifests/${tag}`, { headers: { accept: MANIFEST_TYPE } });
    return response.text();
  }

  async putManifest(tag: string, text: string): Promise<void> {
    await this.#send('PUT', `${this.#base}/manifests/${tag}`, {
      headers: { 'content-type': MANIFEST_TYPE },
      body: text,
    });
  }

  /** @param from bytes that are there already */
  async blob(
    digest: string,
    from: number,
  ): Promise<{ readonly body: ReadableStream<Uint8Array>; readonly from: number }> {
    const response = await this.#send('GET', `${this.#base}/blobs/${digest}`, {
      headers: from > 0 ? { range: `bytes=${from}-` } : {},
      moved: true,
    });
    if (!response.body) throw new ApiError(502, `the registry sent nothing for ${digest}`);
    // A server that knows no ranges sends all of it.
    return { body: response.body, from: response.status === 206 ? from : 0 };
  }

  async hasBlob(digest: string): Promise<boolean> {
    const response = await this.#send('HEAD', `${this.#base}/blobs/${digest}`, { accept: [404], moved: true });
    return response.ok;
  }

  /** @param open gives the bytes; called once */
  async putBlob(digest: string, open: () => ReadableStream<Uint8Array>): Promise<void> {
    const begun = await this.#send('POST', `${this.#base}/blobs/uploads/`);
    const location = begun.headers.get('location') ?? begun.headers.get('docker-upload-location');
    if (location === null) throw new ApiError(502, 'the registry names no place for the upload');
    const target = new URL(location, this.#base);
    if (target.host !== new URL(this.#base).host)
      throw new ApiError(502, `the registry wants the upload at ${target.host}, which is another server`);
    target.searchParams.set('digest', digest);
    await this.#send('PUT', target.href, { headers: { 'content-type': 'application/octet-stream' }, body: open() });
  }

  async #send(method: string, url: string, options: SendOptions = {}): Promise<Response> {
    let response = await this.#once(method, url, options);
    if (response.status === 401 && this.#token === undefined) {
      await response.body?.cancel();
      await this.#authorize(response.headers.get('www-authenticate') ?? '');
      response = await this.#once(method, url, options);
    }
    if (response.ok || options.accept?.includes(response.status)) return response;
    throw await refusal(response, new URL(url).host);
  }

  async #once(method: string, url: string, { headers, body, moved }: SendOptions): Promise<Response> {
    let target = new URL(url);
    const home = target.origin;
    for (let redirects = 0; ; redirects++) {
      const response = await this.#fetch(
        method,
        target,
        {
          ...headers,
          // A token is for the registry alone.
          ...(this.#token !== undefined && target.origin === home ? { authorization: `Bearer ${this.#token}` } : {}),
        },
        body,
      );
      const location = response.headers.get('location');
      if (moved !== true || location === null || response.status < 300 || response.status > 399) return response;
      await response.body?.cancel();
      if (redirects >= MOST_REDIRECTS) throw new ApiError(502, 'the registry redirects without end');
      target = new URL(location, target);
      if (target.protocol !== 'https:' && !this.#access.insecure)
        throw new ApiError(502, `the registry redirects to ${target.protocol}//${target.host}, which is not safe`);
    }
  }

  async #fetch(
    method: string,
    url: URL,
    headers: Record<string, string>,
    body?: string | ReadableStream<Uint8Array>,
  ): Promise<Response> {
    const { signal } = this.#access;
    const stalled = new AbortController();
    // An upload takes as long as it takes.
    const upload = typeof body === 'object';
    const timer = upload ? undefined : setTimeout(() => stalled.abort(new Error('it does not answer')), STALLED_MS);
    try {
      return await fetch(url, {
        method,
        headers,
        redirect: 'manual',
        signal: signal ? AbortSignal.any([signal, stalled.signal]) : stalled.signal,
        ...(body === undefined ? {} : { body }),
        ...(upload ? { duplex: 'half' as const } : {}),
      });
    } catch (error) {
      signal?.throwIfAborted();
      const cause = (error as { cause?: { code?: string; message?: string } }).cause;
      const why = cause?.code ?? cause?.message ?? (error as Error).message;
      throw new ApiError(502, `${url.host} cannot be reached (${why}): check its name, and insecure for plain HTTP`);
    } finally {
      // A body that stalls is its reader's business.
      clearTimeout(timer);
    }
  }

  /** Asks the registry's own token server, as anybody. */
  async #authorize(challenge: string): Promise<void> {
    const field = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(challenge)?.[1];
    const realm = field('realm');
    if (!/^Bearer /i.test(challenge) || realm === undefined)
      throw new ApiError(401, 'the registry wants a login, which this server has not');
    const url = new URL(realm);
    if (url.protocol !== 'https:' && !this.#access.insecure)
      throw new ApiError(502, `the registry sends for a token to ${url.host} without TLS, which is not safe`);
    const service = field('service');
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', field('scope') ?? `repository:${this.#repository}:pull`);
    const response = await this.#fetch('GET', url, {});
    if (!response.ok) throw await refusal(response, url.host);
    const answer = (await response.json()) as { token?: string; access_token?: string };
    this.#token = answer.token ?? answer.access_token ?? '';
  }
}

interface SendOptions {
  readonly headers?: Record<string, string>;
  readonly body?: string | ReadableStream<Uint8Array>;
  /** Statuses that are answers too. */
  readonly accept?: readonly number[];
  /** Whether redirects are followed. */
  readonly moved?: boolean;
}

async function refusal(response: Response, host: string): Promise<ApiError> {
  const text = (await response.text().catch(() => '')).slice(0, 300).trim();
  if (response.status === 404) return new ApiError(404, `${host} has no such model: check the name and the tag`);
  if (response.status === 401 || response.status === 403)
    return new ApiError(response.status, `${host} refuses access to this model`);
  return new ApiError(502, `${host} answered ${response.status}${text === '' ? '' : `: ${text}`}`);
}
