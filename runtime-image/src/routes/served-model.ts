/**
 * The names that clients may use for the one model, and the facts that both APIs list about it.
 */
import type { FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.ts';

const LATEST = /:latest$/;

export class ServedModel {
  readonly names: readonly [string, ...string[]];
  /** `sha256:<hex>`, or undefined when run by hand. */
  readonly digest: string | undefined;

  constructor(names: readonly [string, ...string[]], digest: string | undefined) {
    this.names = names;
    this.digest = digest;
  }

  /**
   * Accepts a served name, with or without `:latest`, and notes it for the audit log.
   * @throws ApiError (404) for any other
   */
  require(name: string, request: FastifyRequest): void {
    const bare = name.replace(LATEST, '');
    if (this.names.some((served) => served.replace(LATEST, '') === bare)) {
      request.facts.model = name;
      return;
    }
    throw new ApiError(404, `model '${name}' not found: this server has ${this.names.join(', ')}`, {
      code: 'model_not_found',
      param: 'model',
    });
  }
}
