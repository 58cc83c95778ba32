/**
 * The ports. Both serve the same application; closing them ends idle connections and waits for the others.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Certificate } from './certificate.ts';
import { portError } from './failures.ts';
import { DEFAULT_LIMITS, type Limits } from './limits.ts';

/**
 * How long an idle connection stays open, in milliseconds; longer than the 60 s of common proxies, so that they and not
 * we close it and no request falls into the gap.
 */
const KEEP_ALIVE = 75_000;

/** How long a client may take for its headers, or for the handshake of TLS, in milliseconds. */
const HEADERS_MS = 20_000;

/** How often requests that take too long to arrive are looked for, in milliseconds. */
const CHECK_MS = 1000;

/** How often connections that became idle are looked for while closing, in milliseconds. */
const SWEEP_MS = 20;

export interface ListenOptions {
  /** Default: the limits that hold without settings. */
  readonly limits?: Limits | undefined;
  /** Serves HTTPS with this. Default: HTTP. */
  readonly certificate?: Certificate | undefined;
  /** Told of each connection that was closed because there were too many. */
  readonly onDrop?: (() => void) | undefined;
}

export interface Listeners {
  /** In the order asked for. */
  readonly ports: readonly number[];
  /** Stops listening and resolves when every connection is closed. */
  close(): Promise<void>;
}

/** A port to open, 0 for a free one; or a socket that somebody has bound already. */
export type Endpoint = number | { readonly fd: number };

/**
 * Opens the ports.
 * @param host undefined for every address, IPv6 and IPv4
 * @throws StartupError (PortInUse)
 */
export async function listen(
  app: FastifyInstance,
  host: string | undefined,
  endpoints: readonly Endpoint[],
  options: ListenOptions = {},
): Promise<Listeners> {
  await app.ready();
  const makeServer = await serverMaker(app, options);
  const servers: Server[] = [];
  try {
    for (const endpoint of endpoints) {
      const server = makeServer();
      servers.push(server);
      await open(server, host, endpoint);
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return {
    ports: servers.map((server) => (server.address() as AddressInfo).port),
    close: async () => {
      await Promise.all(
        servers.map(
          (server) =>
            new Promise<void>((resolve) => {
              // A connection whose last answer is still on its way is not idle yet, and would stay for its keep-alive.
              const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
              server.close(() => {
                clearInterval(sweep);
                resolve();
              });
            }),
        ),
      );
      await app.close();
    },
  };
}

/** @returns what makes one server of each port; all of them follow the certificate */
async function serverMaker(app: FastifyInstance, options: ListenOptions): Promise<() => Server> {
  const { certificate, limits = DEFAULT_LIMITS, onDrop } = options;
  const receiveMs = limits.receiveTimeoutSeconds * 1000;
  const settings = {
    keepAliveTimeout: KEEP_ALIVE,
    requestTimeout: receiveMs,
    headersTimeout: Math.min(HEADERS_MS, receiveMs),
    connectionsCheckingInterval: CHECK_MS,
  };
  const finish = (server: Server): Server => {
    server.maxConnections = limits.maxConnections;
    server.on('drop', () => onDrop?.());
    return server;
  };
  const answer = (request: IncomingMessage, response: ServerResponse) => app.routing(request, response);
  if (!certificate) return () => finish(createServer(settings, answer));
  // Not before it is needed: TLS costs a start of its own.
  const https = await import('node:https');
  const tls = { minVersion: 'TLSv1.2', handshakeTimeout: HEADERS_MS } as const;
  return () => {
    const server = https.createServer({ ...settings, ...tls, ...certificate.pair }, answer);
    // New connections meet the new certificate; those that are open go on with theirs.
    certificate.onChange((pair) => server.setSecureContext({ ...tls, ...pair }));
    return finish(server);
  };
}

function open(server: Server, host: string | undefined, endpoint: Endpoint): Promise<void> {
  return new Promise((resolve, reject) => {
    if (typeof endpoint === 'object') {
      server.once('error', reject);
      server.listen(endpoint, resolve);
      return;
    }
    server.once('error', (error) => reject(portError(error, host, endpoint)));
    // Without a host, Node listens on :: and falls back to 0.0.0.0 where there is no IPv6.
    server.listen({ port: endpoint, ...(host === undefined ? {} : { host }) }, resolve);
  });
}
