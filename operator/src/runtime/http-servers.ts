/**
 * The small HTTP servers of a controller process: `/healthz`, `/readyz` and `/metrics`. Owns sockets; knows no
 * controller.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';

/** A check throws or rejects with a sentence that says what is missing. */
export type Check = () => void | Promise<void>;

export interface Endpoint {
  /** Default: all addresses. */
  readonly host?: string | undefined;
  /** 0 picks a free one. */
  readonly port: number;
}

export interface HttpServersOptions {
  readonly probes?: Endpoint | undefined;
  readonly metricsServer?: Endpoint | undefined;
  readonly health: ReadonlyMap<string, Check>;
  readonly ready: ReadonlyMap<string, Check>;
  readonly registry: Registry;
}

export interface HttpServers {
  readonly ports: { readonly probes: number | undefined; readonly metrics: number | undefined };
  close(): Promise<void>;
}

type Route = (response: ServerResponse) => Promise<void>;

/** Starts what is asked for. Rejects when a port is taken. */
export async function startHttpServers(options: HttpServersOptions): Promise<HttpServers> {
  const probes: Record<string, Route> = {
    '/healthz': (response) => answerChecks(response, options.health),
    '/readyz': (response) => answerChecks(response, options.ready),
  };
  const metrics: Record<string, Route> = {
    '/metrics': async (response) => {
      const text = await options.registry.metrics();
      response.writeHead(200, { 'content-type': options.registry.contentType }).end(text);
    },
  };
  const shared =
    options.probes !== undefined && options.metricsServer?.port === options.probes.port && options.probes.port !== 0;
  const servers: Server[] = [];
  const open = async (endpoint: Endpoint | undefined, routes: Record<string, Route>) => {
    if (endpoint === undefined) return undefined;
    const server = await listen(endpoint, routes);
    servers.push(server);
    return (server.address() as AddressInfo).port;
  };
  const close = async () => {
    await Promise.all(servers.map((server) => closeServer(server)));
  };
  try {
    const probesPort = await open(options.probes, shared ? { ...probes, ...metrics } : probes);
    const metricsPort = shared ? probesPort : await open(options.metricsServer, metrics);
    return { ports: { probes: probesPort, metrics: metricsPort }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function listen(endpoint: Endpoint, routes: Record<string, Route>): Promise<Server> {
  const server = createServer((request, response) => {
    const route = routes[(request.url ?? '/').replace(/\?.*$/, '')];
    if (route === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(route === undefined ? 404 : 405).end();
      return;
    }
    route(response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(endpoint.port, endpoint.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return server;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

async function answerChecks(response: ServerResponse, checks: ReadonlyMap<string, Check>): Promise<void> {
  const results = await Promise.all(
    Array.from(checks, async ([name, check]) => {
      try {
        await check();
        return { ok: true, line: `[+] ${name}` };
      } catch (error) {
        return { ok: false, line: `[-] ${name}: ${error instanceof Error ? error.message : String(error)}` };
      }
    }),
  );
  const ok = results.every((result) => result.ok);
  const lines = [...results.map((result) => result.line), ok ? 'ok' : 'failed'];
  response.writeHead(ok ? 200 : 503, { 'content-type': 'text/plain; charset=utf-8' }).end(`${lines.join('\n')}\n`);
}
