/**
 * The API's description, made of the routes as they are registered: what a route takes is the schema that checks it.
 */
import type { FastifyInstance } from 'fastify';
import type { TSchema } from 'typebox';
import { VERSION } from '../version.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** One line for the API's description; routes without one are not described. */
    summary?: string;
    /** What the route takes. */
    body?: TSchema;
  }
}

/** Call before any route is registered. */
export function registerOpenApi(app: FastifyInstance): void {
  const paths: Record<string, Record<string, unknown>> = {};
  app.addHook('onRoute', (route) => {
    const { summary, body } = route.config ?? {};
    if (summary === undefined) return;
    const methods = (typeof route.method === 'string' ? [route.method] : route.method).filter((one) => one !== 'HEAD');
    const parameters = [...route.url.matchAll(/:(\w+)|\*/g)].map((match) => ({
      name: match[1] ?? 'name',
      in: 'path',
      required: true,
      schema: { type: 'string' },
    }));
    const url = route.url.replace(/:(\w+)/g, '{$1}').replace('*', '{name}');
    for (const method of methods)
      (paths[url] ??= {})[method.toLowerCase()] = {
        summary,
        ...(parameters.length === 0 ? {} : { parameters }),
        ...(body === undefined
          ? {}
          : { requestBody: { required: true, content: { 'application/json': { schema: body } } } }),
        responses: {
          200: { description: 'the answer' },
          default: { description: 'an error, in the shape of the API that the path belongs to' },
        },
      };
  });
  app.get('/openapi.json', { config: { summary: 'This description' } }, async () => ({
    openapi: '3.1.0',
    info: { title: 'slm-operator inference server', version: VERSION },
    components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
    security: [{ key: [] }, {}],
    paths,
  }));
}
