/**
 * Public API of the controller runtime. See README.md beside it.
 */
export * from './apply.ts';
export * from './clock.ts';
export * from './conditions.ts';
export * from './controller.ts';
export * from './events.ts';
export * from './finalizers.ts';
export { type Check, type Endpoint } from './http-servers.ts';
export { type LeaderElectionOptions, LeadershipLostError } from './leader-election.ts';
export * from './log.ts';
export * from './manager.ts';
export * from './metrics.ts';
export * from './outcome.ts';
export type { StoreOptions } from './shared-stores.ts';
export { deepFreeze, type Indexer, type Store, type StoreEvent, type StoreHandler, type Transform } from './store.ts';
