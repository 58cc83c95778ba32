/**
 * The API's description, made of the routes as they are registered: what a route takes is the schema that checks it, and
 * tests hold what it answers to the schemas of schemas/answers.ts.
 */
import type { FastifyInstance } from 'fastify';
import type { TSchema } from 'typebox';
import { isOpenAi } from '../plugins/errors.ts';
import { ANSWERS, AnthropicError, OllamaError, OpenAIError } from '../schemas/answers.ts';
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
        responses: responsesOf(`${method} ${url}`, url),
      };
  });
  app.get('/openapi.json', { config: { summary: 'This description' } }, async () => ({
    openapi: '3.1.0',
    info: { title: 'slm-operator inference server', version: VERSION },
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
      schemas: { OllamaError, OpenAIError, AnthropicError },
    },
    security: [{ key: [] }, {}],
    paths,
  }));
}

/** What each status means on every path. */
const ERRORS = {
  400: 'the request is not valid; the message says what to change',
  401: 'the API key is missing or not valid, where keys are needed',
  404: 'there is no such model',
  413: 'the body is too large',
  429: 'the queue is full; Retry-After says when to try again',
  503: 'the model is loading, or the server is going',
} as const;

function responsesOf(route: string, url: string): Record<string, unknown> {
  const answer = ANSWERS[route];
  const content = answer && {
    content: {
      [answer.type ?? 'application/json']: { schema: answer.schema },
      ...(answer.stream === undefined ? {} : { [answer.stream]: { schema: { type: 'string' } } }),
    },
  };
  const error = { content: { 'application/json': { schema: { $ref: `#/components/schemas/${errorOf(url)}` } } } };
  return {
    200: { description: 'the answer', ...content },
    ...Object.fromEntries(Object.entries(ERRORS).map(([status, description]) => [status, { description, ...error }])),
    default: { description: 'an error', ...error },
  };
}

function errorOf(url: string): 'OllamaError' | 'OpenAIError' | 'AnthropicError' {
  if (url.startsWith('/v1/messages')) return 'AnthropicError';
  return isOpenAi({ url }) ? 'OpenAIError' : 'OllamaError';
}
