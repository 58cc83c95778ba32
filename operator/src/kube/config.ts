/**
 * How to reach a cluster and who we are there. Takes kubeconfig parsing, exec plugins and certificates from
 * `KubeConfig` of `@kubernetes/client-node`; re-reads files, so that rotated tokens and certificates take effect
 * without a restart. Never opens a connection.
 */
import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';

/** Material for TLS as Node's `tls.connect` takes it. */
export interface TlsMaterial {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly servername?: string;
  /** Default true. */
  readonly rejectUnauthorized?: boolean;
}

/** What one request needs besides its own content. */
export interface Credentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsMaterial;
}

/** A cluster as the client sees it. Tests make one by hand; production takes {@link accessFrom}. */
export interface ClusterAccess {
  /** Base URL, for example `https://10.96.0.1:443`. */
  readonly server: string;
  /** Namespace of the context or of this pod. */
  readonly namespace?: string;
  /** HTTP(S) proxy between us and the server. */
  readonly proxyUrl?: string;
  /**
   * Reads the credentials as they are now. The client calls this at most once in ten seconds, and at once after a 401.
   * Rejects with a sentence that names the file or plugin at fault.
   */
  credentials(): Promise<Credentials>;
}

/**
 * Loads a kubeconfig: the given file, else `$KUBECONFIG`, `~/.kube/config`, or the pod's own ServiceAccount, in that
 * order. Throws when the context is unknown or nothing is found.
 */
export function loadKubeConfig(options: { readonly file?: string; readonly context?: string } = {}): KubeConfig {
  const config = new KubeConfig();
  if (options.file !== undefined) config.loadFromFile(options.file);
  else if (process.env['KUBERNETES_SERVICE_HOST'] !== undefined && !process.env['KUBECONFIG']) config.loadFromCluster();
  else config.loadFromDefault();
  if (options.context !== undefined) {
    if (config.getContextObject(options.context) === null) {
      const known = config.getContexts().map((context) => context.name);
      throw new Error(`the kubeconfig has no context ${options.context}; it has: ${known.join(', ') || 'none'}`);
    }
    config.setCurrentContext(options.context);
  }
  return config;
}

type HttpsOptions = RequestOptions & { servername?: string };

interface TokenFileUser {
  readonly authProvider?: { readonly config?: { readonly tokenFile?: unknown } };
}

/** Turns a loaded `KubeConfig` into access for the client. Throws when its current context names no cluster. */
export function accessFrom(config: KubeConfig): ClusterAccess {
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new Error('no cluster to talk to: set KUBECONFIG, pass --context, or run inside a pod with a ServiceAccount');
  }
  const namespace = config.getContextObject(config.currentContext)?.namespace;
  return {
    server: cluster.server.replace(/\/+$/, ''),
    ...(namespace === undefined ? {} : { namespace: namespace.trim() }),
    ...(cluster.proxyUrl === undefined ? {} : { proxyUrl: cluster.proxyUrl }),
    credentials: () => readCredentials(config),
  };
}

async function readCredentials(config: KubeConfig): Promise<Credentials> {
  const options: HttpsOptions = {};
  await config.applyToHTTPSOptions(options);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    if (typeof value === 'string') headers[name.toLowerCase()] = value.trim();
  }
  if (typeof options.auth === 'string')
    headers['authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`;
  // KubeConfig keeps a token file's content for a minute. A bound token is replaced while the old one is still valid,
  // but after a 401 only the file's present content helps, so read it ourselves.
  const tokenFile = (config.getCurrentUser() as TokenFileUser | null)?.authProvider?.config?.tokenFile;
  if (typeof tokenFile === 'string') {
    headers['authorization'] = `Bearer ${(await readFile(tokenFile, 'utf8')).trim()}`;
  }
  return {
    headers,
    tls: {
      ...bytes('ca', options.ca),
      ...bytes('cert', options.cert),
      ...bytes('key', options.key),
      ...(options.servername === undefined ? {} : { servername: options.servername }),
      ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized }),
    },
  };
}

function bytes<Name extends string>(name: Name, value: unknown): { [Key in Name]?: string | Buffer } {
  if (typeof value === 'string' || Buffer.isBuffer(value)) {
    return { [name]: value } as { [Key in Name]?: string | Buffer };
  }
  return {};
}
