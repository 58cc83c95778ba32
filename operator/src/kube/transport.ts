/**
 * One pool of connections to one API server, with the credentials as they are now. Owns sockets, TLS and headers of
 * identity; never retries, never reads an answer.
 */
import { Agent, type Dispatcher, ProxyAgent } from 'undici';
import type { ClusterAccess, Credentials, TlsMaterial } from './config.ts';

/** Files are read again after this long: well within the minutes for which an old token stays valid. */
const CREDENTIALS_MAX_AGE_MS = 10_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** First TCP probe on an idle connection; load balancers forget idle ones after 60 s or more. */
const TCP_KEEPALIVE_MS = 30_000;
/** Idle sockets go before the server's own limit (90 s), or a request would meet a socket that is just being closed. */
const IDLE_SOCKET_MS = 30_000;

export interface Exchange {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with query. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly headersTimeoutMs: number;
  /** Longest silence inside the body; 0 for none. */
  readonly bodyTimeoutMs: number;
}

export interface Transport {
  /** Host and port, for metrics. */
  readonly host: string;
  /** Sends once. The caller must read the body to its end or destroy it. */
  send(exchange: Exchange): Promise<Dispatcher.ResponseData>;
  /** Reads the credentials anew before the next request. */
  refresh(): void;
  close(): Promise<void>;
}

export function makeTransport(access: ClusterAccess): Transport {
  return new PooledTransport(access);
}

class PooledTransport implements Transport {
  readonly host: string;
  readonly #access: ClusterAccess;
  readonly #origin: string;
  /** Path prefix when the server sits behind a gateway such as Rancher's `/k8s/clusters/c-1`. */
  readonly #prefix: string;
  #credentials: Promise<Credentials> | undefined;
  #readAt = 0;
  #dispatcher: Dispatcher | undefined;
  #tlsInUse = '';
  /** As it was read last: the same object needs no second comparison, and there is one for each request otherwise. */
  #tlsSeen: TlsMaterial | undefined;
  #closed = false;

  constructor(access: ClusterAccess) {
    const url = new URL(access.server);
    this.#access = access;
    this.#origin = url.origin;
    this.#prefix = url.pathname.replace(/\/+$/, '');
    this.host = url.host;
  }

  async send(exchange: Exchange): Promise<Dispatcher.ResponseData> {
    const credentials = await this.#current();
    if (this.#closed) throw new Error('the client is closed');
    return await this.#dispatcherFor(credentials.tls).request({
      origin: this.#origin,
      path: this.#prefix + exchange.target,
      method: exchange.method,
      headers: { ...exchange.headers, ...credentials.headers },
      body: exchange.body ?? null,
      signal: exchange.signal ?? null,
      headersTimeout: exchange.headersTimeoutMs,
      bodyTimeout: exchange.bodyTimeoutMs,
    });
  }

  refresh(): void {
    this.#credentials = undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#dispatcher?.destroy();
  }

  #current(): Promise<Credentials> {
    const age = performance.now() - this.#readAt;
    if (this.#credentials === undefined || age > CREDENTIALS_MAX_AGE_MS) {
      this.#readAt = performance.now();
      const reading = this.#access.credentials();
      this.#credentials = reading;
      // A failed read must not be remembered as if it were an answer.
      reading.catch(() => {
        if (this.#credentials === reading) this.#credentials = undefined;
      });
    }
    return this.#credentials;
  }

  #dispatcherFor(tls: TlsMaterial): Dispatcher {
    if (this.#dispatcher !== undefined && tls === this.#tlsSeen) return this.#dispatcher;
    this.#tlsSeen = tls;
    const fingerprint = JSON.stringify(tls, (_key, value: unknown) =>
      Buffer.isBuffer(value) ? value.toString('base64') : value,
    );
    if (this.#dispatcher === undefined || fingerprint !== this.#tlsInUse) {
      const old = this.#dispatcher;
      this.#dispatcher = makeDispatcher(this.#access.proxyUrl, tls);
      this.#tlsInUse = fingerprint;
      // Lets running requests finish on the old certificates; watches end by themselves within minutes.
      old?.close().catch(() => undefined);
    }
    return this.#dispatcher;
  }
}

function makeDispatcher(proxyUrl: string | undefined, tls: TlsMaterial): Dispatcher {
  const shared = {
    // HTTP/1.1 gives each watch its own socket: one stuck stream cannot hold up the others.
    allowH2: false,
    keepAliveTimeout: IDLE_SOCKET_MS,
    keepAliveMaxTimeout: IDLE_SOCKET_MS,
  };
  const connect = { ...tls, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS, timeout: CONNECT_TIMEOUT_MS };
  if (proxyUrl === undefined) return new Agent({ ...shared, connect });
  if (!/^https?:/.test(proxyUrl)) {
    throw new Error(`proxy-url ${proxyUrl}: only http:// and https:// proxies are supported; change the kubeconfig`);
  }
  return new ProxyAgent({ ...shared, uri: proxyUrl, requestTls: { ...tls } });
}
