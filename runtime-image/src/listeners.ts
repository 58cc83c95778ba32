/**
 * The ports. Both serve the same application; closing them ends idle connections and waits for the others.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { portError } from './failures.ts';

/**
 * How long an idle connection stays open, in milliseconds; longer than the 60 s of common proxies, so that they and not
 * we close it and no request falls into the gap.
 */
const KEEP_ALIVE = 75_000;

/** How often connections that became idle are looked for while closing, in milliseconds. */
const SWEEP_MS = 20;

export interface Listeners {
  /** In the order asked for. */
  readonly ports: readonly number[];
  /** Closes connections on which nothing runs; the others go on. */
  closeIdle(): void;
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
): Promise<Listeners> {
  await app.ready();
  const servers: Server[] = [];
  try {
    for (const endpoint of endpoints) {
      const server = createServer({ keepAliveTimeout: KEEP_ALIVE }, (request, response) =>
        app.routing(request, response),
      );
      servers.push(server);
      await open(server, host, endpoint);
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return {
    ports: servers.map((server) => (server.address() as AddressInfo).port),
    closeIdle: () => {
      for (const server of servers) server.closeIdleConnections();
    },
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
