/**
 * Turns every error into the body that the API in question would send. Owns the mapping; a stack trace or a prompt
 * never leaves in an answer.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.ts';
import { GrammarError, PromptTooLongError, UnsupportedError } from '../engines/engine.ts';
import { EngineBrokenError } from '../scheduling/job.ts';
import { QueueFullError } from '../scheduling/queue.ts';
import type { Metrics } from './metrics.ts';

export function registerErrors(app: FastifyInstance, metrics: Pick<Metrics, 'error'>): void {
  app.setErrorHandler((thrown, request, reply) => {
    const error = toApiError(thrown);
    metrics.error(errorKind(error));
    if (error.status >= 500 && !(thrown instanceof ApiError)) request.log.error({ err: thrown }, 'request failed');
    if (error.details.retryAfter !== undefined) reply.header('retry-after', error.details.retryAfter);
    return reply.code(error.status).send(errorBody(request, error));
  });
  app.setNotFoundHandler((request) => {
    throw new ApiError(404, `there is no ${request.method} ${request.url.split('?', 1)[0]} here`, {
      code: 'unknown_url',
    });
  });
}

/** What an error is counted as: its code, or the number of its status. */
export function errorKind({ details, status }: ApiError): string {
  return details.code ?? String(status);
}

/** Any thrown value as an error that a client may see. */
export function toApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof QueueFullError)
    return new ApiError(429, thrown.message, { code: 'rate_limit_exceeded', retryAfter: thrown.retryAfterSeconds });
  if (thrown instanceof EngineBrokenError)
    return new ApiError(503, thrown.message, { code: 'engine_restarting', retryAfter: thrown.retryAfterSeconds });
  if (thrown instanceof PromptTooLongError)
    return new ApiError(400, thrown.message, { code: 'context_length_exceeded' });
  if (thrown instanceof GrammarError) {
    const where = thrown.path === undefined ? '' : ` (at ${thrown.path})`;
    return new ApiError(400, `${thrown.message}${where}`, { code: 'invalid_schema' });
  }
  if (thrown instanceof UnsupportedError) return new ApiError(400, thrown.message, { code: 'unsupported_parameter' });
  // Fastify's own: a body that is too large, and the like.
  const { statusCode, message } = thrown as { statusCode?: number; message?: string };
  if (statusCode === 413)
    return new ApiError(
      413,
      'the request body is larger than this server takes: send less, or raise SLM_MAX_BODY_BYTES',
      {
        code: 'request_too_large',
      },
    );
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new ApiError(statusCode, message ?? 'the request is not valid');
  return new ApiError(500, 'the server failed to answer; its log says why', { code: 'internal_error' });
}

/** The body for an error in the shape of the API that the request was meant for. */
export function errorBody(request: FastifyRequest, error: ApiError): unknown {
  if (isAnthropic(request)) return anthropicError(error);
  return isOpenAi(request) ? openAiError(error) : ollamaError(error);
}

export function anthropicError(error: ApiError): unknown {
  return { type: 'error', error: { type: anthropicType(error.status), message: error.message } };
}

export function openAiError(error: ApiError): unknown {
  return {
    error: {
      message: error.message,
      type: openAiType(error.status),
      param: error.details.param ?? null,
      code: error.details.code ?? null,
    },
  };
}

export function ollamaError(error: ApiError): unknown {
  return { error: error.message };
}

/** @param request anything with a path; reranking is no part of Ollama's API, wherever it stands */
export function isOpenAi(request: { readonly url: string }): boolean {
  return /^\/(?:v1(?:[/?]|$)|(?:v2\/)?rerank(?:[/?]|$))/.test(request.url);
}

/** Anthropic's API has one family of paths among OpenAI's, and shares one; its clients always name their version. */
export function isAnthropic(request: FastifyRequest): boolean {
  if (/^\/v1\/messages(?:[/?]|$)/.test(request.url)) return true;
  return isOpenAi(request) && request.headers['anthropic-version'] !== undefined;
}

function anthropicType(status: number): string {
  switch (status) {
    case 401:
      return 'authentication_error';
    case 403:
      return 'permission_error';
    case 404:
      return 'not_found_error';
    case 413:
      return 'request_too_large';
    case 429:
      return 'rate_limit_error';
    case 503:
      return 'overloaded_error';
    default:
      return status >= 500 ? 'api_error' : 'invalid_request_error';
  }
}

function openAiType(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}
