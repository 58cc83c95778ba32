/**
 * What a model can do, in Ollama's words: told by the engine once it is loaded, by its files before.
 */
import type { PromptTemplate } from '../../chat-template.ts';
import type { ModelFacts } from '../../models/facts.ts';
import { templateOf } from '../../models/loaded-model.ts';
import type { ModelEntry } from '../../models/model-entry.ts';
import { canInfill } from '../infill.ts';

/** Architectures of models that only embed. */
const EMBEDDERS = /bert|t5encoder|^gte|^nomic|^jina/i;

export function capabilitiesOf(entry: ModelEntry, facts: ModelFacts): string[] {
  const { loaded } = entry;
  const template = loaded ? loaded.template : unloadedTemplate(entry, facts);
  const generate = loaded ? loaded.engine.info.capabilities.generate : !EMBEDDERS.test(facts.architecture);
  const embed = loaded ? loaded.engine.info.capabilities.embed : true;
  return [
    ...(generate ? ['completion'] : []),
    ...(generate && template?.supportsTools ? ['tools'] : []),
    ...(generate && template?.supportsThinking ? ['thinking'] : []),
    ...(generate && loaded && canInfill(loaded) ? ['insert'] : []),
    ...(embed ? ['embedding'] : []),
  ];
}

function unloadedTemplate({ spec }: ModelEntry, { chatTemplate }: ModelFacts): PromptTemplate | undefined {
  try {
    return templateOf(spec, chatTemplate, { bosToken: '', eosToken: '' });
  } catch {
    return undefined;
  }
}
