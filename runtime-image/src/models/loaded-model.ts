/**
 * A model that can answer: its engine, and what its file and its Modelfile say about prompts. Owns the choice of the
 * template.
 */
import { ChatTemplate, type PromptTemplate, type TemplateTokens } from '../chat-template.ts';
import type { Engine } from '../engines/engine.ts';
import type { ModelDefaults } from '../modelfile/defaults.ts';
import { GoChatTemplate } from '../modelfile/go-chat-template.ts';
import type { ModelSpec } from './model-spec.ts';

export interface LoadedModel {
  /** The canonical name. */
  readonly name: string;
  readonly engine: Engine;
  /** Undefined when the model has none, or one that cannot be parsed. */
  readonly template: PromptTemplate | undefined;
  readonly defaults: ModelDefaults;
  /** Tokens a second that one stream got in the warm-up. */
  readonly tokensPerSecond: number;
  /** How long loading took, in milliseconds. */
  readonly loadMs: number;
  readonly loadedAt: Date;
}

export interface Loaded {
  readonly model: LoadedModel;
  /** A sentence when the model's template cannot be used. */
  readonly problem: string | undefined;
}

/** Puts together what belongs to a loaded engine. */
export function makeLoadedModel(
  spec: ModelSpec,
  engine: Engine,
  facts: Pick<LoadedModel, 'tokensPerSecond' | 'loadedAt'> & { readonly loadMs?: number },
): Loaded {
  const { chatTemplate, bosToken, eosToken } = engine.info.model;
  let template: PromptTemplate | undefined;
  let problem: string | undefined;
  try {
    template = templateOf(spec, chatTemplate, { bosToken, eosToken, controlTokens: () => engine.controlTokens });
  } catch (error) {
    problem = `the model's chat template cannot be parsed: ${error instanceof Error ? error.message : String(error)}`;
  }
  return {
    model: { name: spec.names[0], engine, template, defaults: spec.defaults, loadMs: 0, ...facts },
    problem,
  };
}

/**
 * The template of a model: its Modelfile's, else its file's.
 * @throws Error for one that cannot be parsed
 */
export function templateOf(
  spec: ModelSpec,
  chatTemplate: string | undefined,
  tokens: TemplateTokens,
): PromptTemplate | undefined {
  const { template } = spec.defaults;
  if (template !== undefined) return new GoChatTemplate(template, tokens);
  return chatTemplate === undefined ? undefined : new ChatTemplate(chatTemplate, tokens);
}
