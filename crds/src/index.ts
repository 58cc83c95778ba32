/** The API of slm-operator: kinds, their types, and the contract between its processes. */
export * from './common.ts';
export * from './contract.ts';
export * from './deployment-hardware.ts';
export * from './deployment-strategy.ts';
export * from './digest.ts';
export * from './kinds.ts';
export * from './label-selector.ts';
export * from './model-defaults.ts';
export * from './reasons.ts';
export * from './slm-deployment.ts';
export * from './slm-deployment-status.ts';
export * from './slm-model.ts';
export * from './slm-model-status.ts';
export * from './slm-node-cache.ts';
export * from './slm-rollout.ts';
