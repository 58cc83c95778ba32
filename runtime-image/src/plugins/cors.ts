/**
 * Web pages that ask from a browser: those of known origins are let in, with the headers that a browser wants (CORS); others
 * are refused, because this server takes JSON whatever its content type says, which any page may send. Clients that are no
 * browser send no origin. Owns the rule, not who holds a key.
 */
import { serverHeaders } from '@slm-operator/crds/contract';
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../api-error.ts';

/** The pages that Ollama lets in: this machine's, whatever their port, and those of applications on it. */
const LOCAL: readonly string[] = [
  ...['localhost', '127.0.0.1', '0.0.0.0', '[::1]'].flatMap((host) =>
    ['http', 'https'].flatMap((scheme) => [`${scheme}://${host}`, `${scheme}://${host}:*`]),
  ),
  'app://*',
  'file://*',
  'tauri://*',
  'vscode-webview://*',
  'vscode-file://*',
];

/** Seconds for which a browser need not ask again. */
const MAX_AGE = 12 * 3600;

const EXPOSED = `retry-after, x-request-id, ${serverHeaders.revision}`;

/** Whether a text is an origin, or a pattern of some: `*`, `https://chat.example.com`, `https://*.example.com`. */
export function isOrigin(text: string): boolean {
  return text === '*' || /^[a-z][a-z\d+.-]*:\/\/[^\s/?#]+$/i.test(text);
}

/** @param origins further origins; `*` in them stands for anything */
export function registerCors(app: FastifyInstance, origins: readonly string[]): void {
  const allowed = [...LOCAL, ...origins].map(
    (pattern) => new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/@]*')}$`, 'i'),
  );
  app.addHook('onRequest', async (request, reply) => {
    const { origin, host } = request.headers;
    // A page that this server's own address has brought is no stranger.
    if (origin === undefined || origin === `${request.protocol}://${host}`) return undefined;
    if (!allowed.some((pattern) => pattern.test(origin)))
      throw new ApiError(
        403,
        `web pages of ${origin} may not use this server: add the origin to SLM_ORIGINS, or ask from a program`,
        { code: 'origin_not_allowed' },
      );
    reply.header('access-control-allow-origin', origin).header('vary', 'Origin');
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) {
      reply.header('access-control-expose-headers', EXPOSED);
      return undefined;
    }
    const wanted = request.headers['access-control-request-headers'];
    return reply
      .code(204)
      .header('access-control-allow-methods', 'GET, POST, DELETE, HEAD')
      .header('access-control-max-age', MAX_AGE)
      .headers(wanted === undefined ? {} : { 'access-control-allow-headers': wanted })
      .send();
  });
}
