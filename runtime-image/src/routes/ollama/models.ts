/**
 * Ollama's API: what there is, and what cannot be changed from here.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { LoadedModel } from '../../lifecycle.ts';
import { checkBody } from '../../schemas/check.ts';
import { ShowRequest } from '../../schemas/ollama.ts';
import { VERSION } from '../../version.ts';
import { canInfill } from '../infill.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { detailsOf } from './replies.ts';

/** Ollama writes a time far away for a model that stays loaded. */
const NEVER = '2318-01-01T00:00:00Z';

const MANAGEMENT = [
  ['POST', '/api/pull'],
  ['POST', '/api/push'],
  ['POST', '/api/create'],
  ['POST', '/api/copy'],
  ['DELETE', '/api/delete'],
  ['POST', '/api/blobs/:digest'],
  ['HEAD', '/api/blobs/:digest'],
] as const;

export function registerOllamaModels(app: FastifyInstance, options: ApiOptions): void {
  const { lifecycle, served } = options;
  const digest = (served.digest ?? '').replace(/^sha256:/, '');
  const entry = (name: string, model: LoadedModel) => {
    const full = name.includes(':') ? name : `${name}:latest`;
    const { info } = model.engine;
    return { name: full, model: full, size: info.model.size, digest, details: detailsOf(info) };
  };

  app.get('/', { config: { summary: 'Heartbeat' } }, async () => 'Ollama is running');
  app.get('/api/version', { config: { summary: 'Version of the server' } }, async () => ({ version: VERSION }));

  app.get('/api/tags', { config: { summary: 'The names of the model' } }, async () => {
    const model = lifecycle.model();
    const modified = { modified_at: model.loadedAt.toISOString() };
    return { models: served.names.map((name) => ({ ...entry(name, model), ...modified })) };
  });

  app.get('/api/ps', { config: { summary: 'What is loaded' } }, async () => {
    const model = lifecycle.loaded;
    if (!model) return { models: [] };
    const running = { expires_at: NEVER, size_vram: 0, context_length: model.engine.info.contextLength };
    return { models: [{ ...entry(served.names[0], model), ...running }] };
  });

  app.post('/api/show', { config: { summary: 'Facts about the model', body: ShowRequest } }, async (request) => {
    const body = checkBody(ShowRequest, request.body);
    const name = body.model ?? body.name;
    if (name === undefined) throw new ApiError(400, 'model is required', { param: 'model' });
    served.require(name, request);
    const model = lifecycle.model();
    const { info } = model.engine;
    const { architecture } = info.model;
    return {
      modelfile: `# Served by slm-operator; the SLMModel says where it comes from.\nFROM ${name}\n`,
      parameters: `num_ctx ${info.contextLength}`,
      template: info.model.chatTemplate ?? '{{ .Prompt }}',
      details: detailsOf(info),
      model_info: {
        'general.architecture': architecture,
        'general.parameter_count': info.model.parameters,
        [`${architecture}.context_length`]: info.model.trainedContextLength,
        [`${architecture}.embedding_length`]: info.model.embeddingLength,
        [`${architecture}.vocab_size`]: info.model.vocabularySize,
      },
      capabilities: capabilitiesOf(model),
      modified_at: model.loadedAt.toISOString(),
    };
  });

  for (const [method, url] of MANAGEMENT)
    app.route({
      method,
      url,
      handler: async () => {
        throw new ApiError(
          403,
          'models are managed by the cluster, not through this API: change the SLMModel or SLMDeployment instead',
          { code: 'management_disabled' },
        );
      },
    });
}

function capabilitiesOf(model: LoadedModel): string[] {
  const { template, engine } = model;
  const { generate, embed } = engine.info.capabilities;
  return [
    ...(generate ? ['completion'] : []),
    ...(generate && template?.supportsTools ? ['tools'] : []),
    ...(generate && template?.supportsThinking ? ['thinking'] : []),
    ...(generate && canInfill(model) ? ['insert'] : []),
    ...(embed ? ['embedding'] : []),
  ];
}
