/** How Anthropic's API lists models. Pure. */

/** As OpenAI's API has it, whose path this is. */
export interface ListedModel {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
}

export function anthropicModel({ id, created }: ListedModel): Record<string, unknown> {
  return { type: 'model', id, display_name: id, created_at: new Date(created * 1000).toISOString() };
}

/** All on one page. */
export function anthropicModels(models: readonly ListedModel[]): Record<string, unknown> {
  return {
    data: models.map(anthropicModel),
    has_more: false,
    first_id: models[0]?.id ?? null,
    last_id: models.at(-1)?.id ?? null,
  };
}
