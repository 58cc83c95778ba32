/**
 * Leaves out an API that the server's owner does not want. Owns which paths are whose; the routes know nothing of it.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../api-error.ts';
import { isOperations } from '../routes/operations.ts';

/** What is served. */
export interface Apis {
  /** OpenAI's and Anthropic's, and the others that clients look for beside them. */
  readonly openai: boolean;
  readonly ollama: boolean;
}

export const ALL_APIS: Apis = { openai: true, ollama: true };

export function registerApiSwitch(app: FastifyInstance, apis: Apis): void {
  if (apis.openai && apis.ollama) return;
  app.addHook('onRequest', async (request) => {
    if (isOperations(request)) return;
    const path = request.url.split('?', 1)[0] ?? '';
    if (!apis.openai && /^\/(?:v[12]|rerank)(?:\/|$)/.test(path))
      throw new ApiError(404, 'this server does not serve OpenAI’s API: use Ollama’s, or set spec.api.openai to true', {
        code: 'api_disabled',
      });
    if (!apis.ollama && /^\/api(?:\/|$)/.test(path))
      throw new ApiError(404, 'this server does not serve Ollama’s API: use OpenAI’s, or set spec.api.ollama to true', {
        code: 'api_disabled',
      });
  });
}
