/**
 * Whether an addon has the objects and methods that addon.ts describes. A release that renamed one would otherwise fail in the
 * middle of an answer.
 */

/** Classes and the methods of theirs that we call; functions have none. */
const PARTS: Readonly<Record<string, readonly string[]>> = {
  AddonModel: [
    'init',
    'tokenize',
    'detokenize',
    'isEogToken',
    'getTokenString',
    'getTokenAttributes',
    'getVocabularyType',
    'getTotalParameters',
    'getTrainContextSize',
    'getEmbeddingVectorSize',
    'getModelDescription',
    'getMemoryBreakdown',
    'loadLora',
    'dispose',
  ],
  AddonModelLora: ['dispose'],
  AddonContext: [
    'init',
    'initBatch',
    'addToBatch',
    'decodeBatch',
    'sampleToken',
    'removeTokenCellsFromSequence',
    'shiftSequenceTokenCells',
    'getSequenceKvCacheMinPosition',
    'copySequenceStateFromOtherSequence',
    'saveSequenceStateToFile',
    'loadSequenceStateFromFile',
    'getEmbedding',
    'getMemoryBreakdown',
    'setLoras',
    'dispose',
  ],
  AddonSampler: ['applyConfig', 'dispose'],
  AddonGrammar: [],
  AddonGrammarEvaluationState: [],
  setLogger: [],
  setLoggerLogLevel: [],
  loadBackends: [],
  init: [],
  systemInfo: [],
  getGpuDeviceInfo: [],
  getGpuVramInfo: [],
  getIsArchSupported: [],
  getIsArchRecurrent: [],
  getIsArchHybrid: [],
  getBlockSizeForGgmlType: [],
  getTypeSizeForGgmlType: [],
};

/** @returns what is missing, such as `AddonContext.initBatch`; empty when all is there */
export function missingParts(addon: object): string[] {
  const exported = addon as Readonly<Record<string, unknown>>;
  return Object.entries(PARTS).flatMap(([name, methods]) => {
    const part = exported[name];
    if (typeof part !== 'function') return [name];
    const prototype = (part as { readonly prototype?: object }).prototype ?? {};
    return methods.filter((method) => !(method in prototype)).map((method) => `${name}.${method}`);
  });
}
