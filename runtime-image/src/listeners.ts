/**
 * The ports. Both serve the same application; closing them ends idle connections and waits for the others.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { StartupError } from './failures.ts';

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

/**
 * Opens the ports.
 * @param host undefined for every address, IPv6 and IPv4
 * @param ports 0 picks a free one
 * @throws StartupError (PortInUse)
 */
export async function listen(
  app: FastifyInstance,
  host: string | undefined,
  ports: readonly number[],
): Promise<Listeners> {
  await app.ready();
  const servers: Server[] = [];
  try {
    for (const port of ports) {
      const server = createServer({ keepAliveTimeout: KEEP_ALIVE }, (request, response) =>
        app.routing(request, response),
      );
      servers.push(server);
      await open(server, host, port);
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

function open(server: Server, host: string | undefined, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const sentence =
        error.code === 'EADDRINUSE'
          ? `port ${port} is in use: set SLM_PORT or SLM_OPENAI_PORT to another`
          : `port ${port} cannot be opened on ${host ?? 'any address'}: ${error.message}`;
      reject(new StartupError('PortInUse', `${sentence}.`, { cause: error }));
    });
    // Without a host, Node listens on :: and falls back to 0.0.0.0 where there is no IPv6.
    server.listen({ port, ...(host === undefined ? {} : { host }) }, resolve);
  });
}
