/**
 * The HTTP application: plugins and routes put together. Owns no listener and no model, so tests call it with inject().
 */
import { isUtf8 } from 'node:buffer';
import fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { ApiError } from './api-error.ts';
import type { Lifecycle } from './lifecycle.ts';
import { DEFAULT_LIMITS, isTooDeep, type Limits } from './limits.ts';
import { ALL_APIS, type Apis, registerApiSwitch } from './plugins/api-switch.ts';
import { type AuditOptions, registerAudit } from './plugins/audit.ts';
import { type Authenticator, registerAuth } from './plugins/auth.ts';
import { registerCors } from './plugins/cors.ts';
import { registerDrain } from './plugins/drain.ts';
import { registerErrors } from './plugins/errors.ts';
import { registerFacts } from './plugins/facts.ts';
import { registerLimits, tooDeep } from './plugins/limits.ts';
import { type MetricSources, Metrics, registerMetrics } from './plugins/metrics.ts';
import { registerRequestId, requestId } from './plugins/request-id.ts';
import { registerSpans, type TraceApi } from './plugins/spans.ts';
import { registerAnthropic } from './routes/anthropic/routes.ts';
import { registerOllamaEmbeddings } from './routes/ollama/embeddings.ts';
import { type ManagementOptions, registerManagement, registerManagementRefusals } from './routes/ollama/management.ts';
import { registerOllamaModels } from './routes/ollama/models.ts';
import { registerOllama } from './routes/ollama/routes.ts';
import { registerOpenAiEmbeddings } from './routes/openai/embeddings.ts';
import { registerOpenAi } from './routes/openai/routes.ts';
import { registerOpenApi } from './routes/openapi.ts';
import { registerOperations } from './routes/operations.ts';
import { registerRerank } from './routes/rerank.ts';
import { registerResponses } from './routes/responses/routes.ts';
import { ServedModels } from './routes/served-model.ts';
import type { Forwarding } from './traffic/forwarding.ts';
import { registerTraffic } from './traffic/plugin.ts';

export interface AppOptions extends MetricSources {
  readonly lifecycle: Lifecycle;
  /** Undefined: everybody may ask. */
  readonly auth: Authenticator | undefined;
  readonly log: FastifyBaseLogger;
  /** Default: all. */
  readonly apis?: Apis | undefined;
  /** Origins of web pages that may ask besides this machine's. Default: none. */
  readonly origins?: readonly string[] | undefined;
  /** Undefined: no traces. */
  readonly tracing?: TraceApi | undefined;
  /** Undefined: no audit log is kept. */
  readonly audit?: AuditOptions | undefined;
  /** Default: those that hold without settings. */
  readonly limits?: Limits | undefined;
  /** What passes requests on to other pods. Undefined: all are answered here. */
  readonly traffic?: Forwarding | undefined;
  /** Undefined: clients may not change which models there are. */
  readonly management?: ManagementOptions | undefined;
  /** Milliseconds since 1970. Default: Date.now. */
  readonly now?: () => number;
}

/** Builds the application; it answers 503 until the lifecycle has a model. */
export function makeApp(options: AppOptions): FastifyInstance {
  const { lifecycle, log, limits = DEFAULT_LIMITS } = options;
  const app = fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.maxBodyBytes,
    genReqId: (request) => requestId(request),
  });
  // Ollama takes JSON whatever the content type says, and its documented curl calls send none.
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body, done) => {
    // Decoding would put replacement characters into the prompt, in silence.
    if (!isUtf8(body as Buffer)) return done(new ApiError(400, 'the request body is not valid UTF-8'));
    const text = body.toString();
    if (isTooDeep(text)) return done(tooDeep());
    void parseJson(request, text, (error, value) => {
      if (error) done(new ApiError(400, 'the request body is not valid JSON'));
      else done(null, value);
    });
  });

  const metrics = new Metrics(lifecycle, options);
  app.decorate('metrics', metrics);
  const served = new ServedModels(lifecycle.models);
  const api = { lifecycle, metrics, served, now: options.now ?? Date.now };
  registerErrors(app, metrics);
  registerFacts(app);
  registerRequestId(app);
  registerLimits(app, limits);
  registerOpenApi(app);
  registerMetrics(app, metrics);
  registerDrain(app, lifecycle);
  if (options.traffic) registerTraffic(app, { forwarding: options.traffic, lifecycle, metrics });
  if (options.tracing) registerSpans(app, options.tracing);
  if (options.audit) registerAudit(app, options.audit, api.now);
  // Ahead of the keys: browsers send none when they ask what they may do.
  registerCors(app, options.origins ?? []);
  if (options.auth) registerAuth(app, options.auth);
  registerApiSwitch(app, options.apis ?? ALL_APIS);
  registerOperations(app, { lifecycle, metrics, traffic: options.traffic });
  registerOpenAi(app, api);
  registerOpenAiEmbeddings(app, api);
  registerRerank(app, api);
  registerResponses(app, api);
  registerAnthropic(app, api);
  registerOllama(app, api);
  registerOllamaEmbeddings(app, api);
  registerOllamaModels(app, api);
  if (options.management) registerManagement(app, served, options.management);
  else registerManagementRefusals(app);
  return app;
}
