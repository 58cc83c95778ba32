/**
 * Ollama's API: changing what there is. Refused unless the server was told that its models are its own.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';

const MANAGEMENT = [
  ['POST', '/api/pull'],
  ['POST', '/api/push'],
  ['POST', '/api/create'],
  ['POST', '/api/copy'],
  ['DELETE', '/api/delete'],
  ['POST', '/api/blobs/:digest'],
  ['HEAD', '/api/blobs/:digest'],
] as const;

export function registerManagementRefusals(app: FastifyInstance): void {
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
