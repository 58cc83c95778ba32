/**
 * An error that a client sees: status, sentence and what programs need of it. How it is written down is each API's
 * own business (plugins/errors.ts).
 */
export interface ApiErrorDetails {
  /** The request's property that is to blame. */
  readonly param?: string;
  /** For programs, in OpenAI's spelling, such as `model_not_found`. */
  readonly code?: string;
  /** Seconds after which to try again. */
  readonly retryAfter?: number;
}

export class ApiError extends Error {
  readonly status: number;
  readonly details: ApiErrorDetails;

  constructor(status: number, message: string, details: ApiErrorDetails = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.details = details;
  }
}
